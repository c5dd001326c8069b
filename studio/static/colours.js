/** Colours by name: figures and pages say `var(--e1)`, `studio/figures/palette.py` says what it is. */

const NAMED = /^var\(--[\w-]+\)$/;
const COLOURED_EXPERTS = 8;
// What a figure holds of data; it can be long, and no colour is in it.
const DATA = new Set(["x", "y", "z", "customdata", "text", "ids"]);

/** CSS class that carries colour, shape and underline of an expert (from 0); further ones are grey with their name. */
export function expertClass(index) {
  return index < COLOURED_EXPERTS ? `hy-e${index + 1}` : "hy-other";
}

/**
 * A copy of a figure's part in which every named colour has its value.
 *
 * @param {*} value
 * @param {(name: string) => string} valueOf The value of a custom property such as `--e1`.
 */
export function resolveColours(value, valueOf) {
  if (typeof value === "string") return NAMED.test(value) ? valueOf(value.slice(4, -1)) : value;
  if (Array.isArray(value)) return value.map((item) => resolveColours(item, valueOf));
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([key, item]) => [key, DATA.has(key) ? item : resolveColours(item, valueOf)]));
}

/** How to look up a custom property where an element stands. */
export function valuesAt(element) {
  const style = getComputedStyle(element);
  return (name) => style.getPropertyValue(name).trim();
}
