/** Tables: on the page, and as CSV for spreadsheets. */

import { make } from "./dom.js";

const SHOWN_ROWS = 500;

// A cell that a spreadsheet would run as a formula gets an apostrophe in front; `hydralora/sheets.py` does the same.
export const FORMULA =
  /^(?:[\t\r\n]|[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])/;
export const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;

/** One cell of a CSV file. */
export function csvCell(value) {
  const text = String(value ?? "");
  const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** A table `{head, rows}` as a CSV file. */
export function csvText({ head, rows }) {
  return [head, ...rows].map((row) => row.map(csvCell).join(",") + "\n").join("");
}

/** Which columns hold numbers only; those are aligned at their right. */
export function numericColumns({ head, rows }) {
  return head.map((_, column) => {
    const cells = rows.map((row) => row[column]).filter((cell) => cell !== null && cell !== undefined && cell !== "");
    return cells.length > 0 && cells.every((cell) => typeof cell === "number" || NUMBER.test(cell));
  });
}

/** The first rows of a table, in a box of its own that scrolls and takes the keyboard. */
export function tableNode(table, caption) {
  const numeric = numericColumns(table);
  const cell = (tag, value, column) => {
    const node = make(tag, { textContent: value === null ? "" : String(value), class: numeric[column] ? "num" : "" });
    if (tag === "th") node.scope = "col";
    return node;
  };
  const row = (tag, cells) => make("tr", {}, ...cells.map((value, column) => cell(tag, value, column)));
  const node = make(
    "table",
    { class: "hy-table" },
    make("caption", { class: "visually-hidden", textContent: caption }),
    make("thead", {}, row("th", table.head)),
    make("tbody", {}, ...table.rows.slice(0, SHOWN_ROWS).map((cells) => row("td", cells))),
  );
  return make("div", { class: "hy-scroll tall", tabIndex: 0, role: "region", "aria-label": caption }, node);
}
