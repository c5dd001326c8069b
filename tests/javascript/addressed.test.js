import assert from "node:assert/strict";
import { test } from "node:test";

import { nameOf, valueOf, wanted, withValue } from "../../studio/static/addressed.js";
import { aboutRuns, writtenIds } from "../../studio/static/run-table.js";

test("a value of the address is set, taken away, and begins a list at its first page", () => {
  assert.equal(withValue("?page=3&q=a", "q", "b c"), "?q=b+c");
  assert.equal(withValue("?q=a", "q", ""), "");
  assert.equal(withValue("?q=a", "page", "2"), "?q=a&page=2");
  assert.equal(withValue("", "runs", "1,4-9"), "?runs=1,4-9");
});

test("what would be code in an address stays text", () => {
  assert.equal(withValue("", "q", "</script>&x=1"), "?q=%3C%2Fscript%3E%26x%3D1");
});

test("a box without a value of its own is one or nothing", () => {
  assert.equal(valueOf({ type: "checkbox", dataset: {}, checked: true, value: "on" }), "1");
  assert.equal(valueOf({ type: "checkbox", dataset: {}, checked: false, value: "on" }), "");
  assert.equal(valueOf({ type: "checkbox", dataset: { value: "1,2" }, checked: false }), "1,2");
  assert.equal(valueOf({ type: "button", dataset: { value: "-exact" } }), "-exact");
});

test("a control is found again by what it does, though its value has changed meanwhile", () => {
  const before = { dataset: { param: "sort", value: "-exact", key: "exact" }, tagName: "BUTTON" };
  const after = { dataset: { param: "sort", value: "exact", key: "exact" }, tagName: "BUTTON" };
  assert.equal(nameOf(before), nameOf(after));
  assert.equal(nameOf({ dataset: {} }), "");
  assert.equal(nameOf(null), "");
});

test("a button tells its act with the text of the input beside it", () => {
  const form = { querySelector: () => ({ value: "best" }) };
  const button = { dataset: { act: "tag", of: "1-3" }, closest: () => form };
  assert.deepEqual(wanted(button), { act: "tag", of: "1-3", value: "best" });
  assert.deepEqual(wanted({ dataset: { act: "archive" }, closest: () => null }), { act: "archive", of: "", value: "" });
});

test("ids are written in ranges, as the studio reads them", () => {
  assert.equal(writtenIds([2, 4, 5, 6, 9]), "2,4-6,9");
  assert.equal(writtenIds([]), "");
});

test("what ticked runs have alike is said in words", () => {
  const run = (more) => ({ corpus: "trades", base: "starter", method: "lora", seed: "1", ...more });
  assert.equal(aboutRuns([run({})]), "");
  assert.equal(aboutRuns([run({}), run({ seed: "2" })]), "same corpus and base; 1 method, 2 seeds");
  const apart = [run({}), run({ corpus: "faq", method: "hydralora" })];
  assert.equal(aboutRuns(apart), "same base; 2 corpora, 2 methods, 1 seed");
});
