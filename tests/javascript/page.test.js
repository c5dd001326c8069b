import assert from "node:assert/strict";
import test from "node:test";

import { expertClass, resolveColours } from "../../studio/static/colours.js";
import { troubleInWords } from "../../studio/static/live-changes.js";
import { readReply, sentence } from "../../studio/static/reply.js";
import { nextPlace } from "../../studio/static/roving.js";

test("colours by name get their values wherever they stand", () => {
  const figure = { line: { color: "var(--e1)" }, colorscale: [[0, "var(--sheet)"], [1, "#abc"]], n: 2, none: null };
  const found = resolveColours(figure, (name) => `value of ${name}`);
  assert.equal(found.line.color, "value of --e1");
  assert.deepEqual(found.colorscale, [[0, "value of --sheet"], [1, "#abc"]]);
  assert.deepEqual([found.n, found.none], [2, null]);
});

test("data is passed on as it is", () => {
  const y = ["var(--e1)", 2];
  assert.equal(resolveColours({ y }, () => "red").y, y);
});

test("a figure is not changed, so that it can be drawn again in other colours", () => {
  const figure = { color: "var(--e1)" };
  resolveColours(figure, () => "red");
  assert.equal(figure.color, "var(--e1)");
});

test("experts beyond the eighth are grey", () => {
  assert.deepEqual([0, 7, 8, 63].map(expertClass), ["hy-e1", "hy-e8", "hy-other", "hy-other"]);
});

test("arrows, Home and End move inside, and stop at the ends", () => {
  assert.equal(nextPlace("ArrowRight", 0, 3), 1);
  assert.equal(nextPlace("ArrowDown", 2, 3), 2);
  assert.equal(nextPlace("ArrowLeft", 0, 3), 0);
  assert.equal(nextPlace("Home", 2, 3), 0);
  assert.equal(nextPlace("End", 0, 3), 2);
});

test("other keys move nothing", () => {
  for (const key of ["Tab", "Enter", "a"]) assert.equal(nextPlace(key, 1, 3), -1);
});

test("a refusal says the studio's own sentence", async () => {
  const reply = { ok: false, status: 400, json: async () => ({ detail: "Run 9 does not exist." }) };
  await assert.rejects(readReply(reply), { message: "Run 9 does not exist.", refused: true, status: 400 });
});

test("a refusal without words names its number", async () => {
  assert.equal(sentence({ detail: [1] }, 502), "The studio answered with 502.");
  await assert.rejects(readReply({ ok: false, status: 502, json: () => Promise.reject(new Error("no JSON")) }), /502/);
});

test("who is signed out is told so, and a refusal says its own sentence", () => {
  assert.match(troubleInWords({ refused: true, status: 401 }), /signed out/);
  assert.equal(troubleInWords({ refused: true, status: 422, message: "No such topic." }), "No such topic.");
});

test("a studio that is away is told as away, whether it answers with a failure or not at all", () => {
  assert.match(troubleInWords(new TypeError("Failed to fetch")), /cannot be reached/);
  assert.match(troubleInWords({ refused: true, status: 502, message: "Bad gateway" }), /cannot be reached/);
});
