import assert from "node:assert/strict";
import test from "node:test";

import { readReply } from "../../studio/static/reply.js";
import { isWorthTelling, numberIn, switchOf } from "../../studio/static/tray/notices.js";

const END = { status: "succeeded", at: 1000, seconds: 60, href: "/run?run=1" };
const PLACE = { now: 1010, here: "/runs", isSeen: true };

test("an end is told where it was worth waiting for, and new", () => {
  assert.equal(isWorthTelling(END, PLACE), true);
  assert.equal(isWorthTelling({ ...END, seconds: 3 }, PLACE), false);
  assert.equal(isWorthTelling({ ...END, seconds: 3, status: "failed" }, PLACE), true);
  assert.equal(isWorthTelling(END, { ...PLACE, now: 1000 + 3600 }), false);
});

test("who looks at the page of a job sees its end there, and not at the page of another", () => {
  assert.equal(isWorthTelling(END, { ...PLACE, here: "/run?run=1&tab=chat" }), false);
  assert.equal(isWorthTelling(END, { ...PLACE, here: "/run?run=12" }), true);
  assert.equal(isWorthTelling(END, { ...PLACE, here: "/run?run=1", isSeen: false }), true);
  assert.equal(isWorthTelling({ ...END, href: "" }, PLACE), true);
});

test("the switch is on where it was asked for and allowed, and says why it cannot be turned", () => {
  assert.equal(switchOf("granted", true).checked, true);
  assert.equal(switchOf("granted", false).checked, false);
  assert.equal(switchOf("default", true).checked, false);
  assert.match(switchOf("denied", true).words, /blocks/);
  assert.match(switchOf(undefined, true).words, /https/);
});

test("what a browser keeps is asked with where it is a number, and not at all else", () => {
  assert.deepEqual(["17", "0"].map(numberIn), ["17", "0"]);
  assert.deepEqual([null, "", "undefined", "NaN", "-1", "1e3"].map(numberIn), ["", "", "", "", "", ""]);
});

test("a reply that breaks off is no empty one, and a refusal without words is still one", async () => {
  const broken = { ok: true, status: 200, json: () => Promise.reject(new Error("broke off")) };
  await assert.rejects(readReply(broken), /broke off/);
  const refused = { ok: false, status: 502, json: () => Promise.reject(new Error("no JSON")) };
  await assert.rejects(readReply(refused), { refused: true, status: 502, message: "The studio answered with 502." });
});
