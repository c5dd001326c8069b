/** A figure's layout for the width that it is drawn at: names at the ends of lines leave the lines most of the room. */

const PART = 0.36; // of the width, which names take at most
const LETTER = 6.6; // px of one
const BESIDE = 24; // px between the lines and the edge that are no name
const NAME = /^<b>(.*)<\/b>$/s;
const LETTERS = /&[^;]+;|./gsu; // an escaped one counts once

/** A name in bold that has at most so many letters. */
export function shortened(text, most) {
  const letters = NAME.exec(text)[1].match(LETTERS) ?? [];
  return letters.length <= most ? text : `<b>${letters.slice(0, Math.max(1, most - 1)).join("")}…</b>`;
}

/** The layout with names as long as there is room for. */
export function fitted(layout, width) {
  const right = layout.margin?.r ?? 0;
  const most = Math.floor(width * PART);
  if (!width || right <= most || !layout.annotations) return layout;
  const letters = Math.floor((most - BESIDE) / LETTER);
  const isName = (note) => note.xanchor === "left" && NAME.test(note.text);
  const annotations = layout.annotations.map((note) => {
    return isName(note) ? { ...note, text: shortened(note.text, letters) } : note;
  });
  return { ...layout, margin: { ...layout.margin, r: most }, annotations };
}
