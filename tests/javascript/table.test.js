import assert from "node:assert/strict";
import test from "node:test";

import { csvCell, csvText, numericColumns } from "../../studio/static/table.js";

test("a cell that a spreadsheet would run gets an apostrophe", () => {
  for (const cell of ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "  =1", "\u200b=1", "＝1"]) {
    assert.ok(csvCell(cell).replace(/^"/, "").startsWith("'"), JSON.stringify(cell));
  }
});

test("a number stays a number, also a negative one", () => {
  assert.deepEqual([-2.5, "-2.5", "+1e-7", ".5"].map(csvCell), ["-2.5", "-2.5", "+1e-7", ".5"]);
});

test("quotes, commas and line breaks stay inside their cell", () => {
  assert.deepEqual(["a,b", 'say "hi"', "a\nb"].map(csvCell), ['"a,b"', '"say ""hi"""', '"a\nb"']);
});

test("a cell without a value is empty", () => {
  assert.equal(csvText({ head: ["a", "b"], rows: [[null, undefined]] }), "a,b\n,\n");
});

test("a column is aligned as numbers only where it holds nothing else", () => {
  const rows = [[1, "-2.5", "C1", null], [2, "3", 4, null]];
  assert.deepEqual(numericColumns({ head: ["a", "b", "c", "d"], rows }), [true, true, false, false]);
});
