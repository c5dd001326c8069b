import assert from "node:assert/strict";
import test from "node:test";

import { chosenBy, idInAddress, withIds } from "../../studio/static/chat/address.js";
import { differentPlaces } from "../../studio/static/chat/difference.js";
import { layerMeans, leaderOf, meanOf, sharesInWords, shownRow } from "../../studio/static/chat/gates.js";
import { gapInWords, gapOf } from "../../studio/static/chat/scores.js";
import { offered } from "../../studio/static/chat/settings.js";
import { applyLine, wholeLines } from "../../studio/static/chat/stream.js";
import { continueStretch, isNamed } from "../../studio/static/chat/stretches.js";
import { groupsOf } from "../../studio/static/chat/thread.js";
import { answererInWords, ExpertChanges } from "../../studio/static/chat/variants.js";

const NAMES = ["E1", "E2"];
const GATES = [[0.8, 0.2], [0.2, 0.8]]; // two layers

test("the mean of all layers is shown, or the chosen one", () => {
  assert.deepEqual(shownRow(GATES, "all"), [0.5, 0.5]);
  assert.deepEqual(shownRow(GATES, "1"), [0.2, 0.8]);
  assert.equal(shownRow(null, "all"), null);
  assert.equal(shownRow([], "all"), null);
});

test("a layer that is not there shows the mean", () => {
  assert.deepEqual(shownRow(GATES, "9"), meanOf(GATES));
});

test("tokens without routing weights are left out of the means", () => {
  assert.deepEqual(layerMeans([["a", GATES], ["b", null]]), GATES);
  assert.equal(layerMeans([["b", null]]), null);
});

test("the leading expert has the largest share", () => {
  assert.equal(leaderOf([0.2, 0.5, 0.3]), 1);
  assert.equal(sharesInWords([0.2, 0.8], NAMES), "E1 20 %, E2 80 %");
});

const stretchesOf = (tokens) => {
  const found = [];
  let stretch = null;
  tokens.forEach(([text, expert], place) => {
    stretch = continueStretch(stretch, place, expert, text);
    found.push([stretch?.start ?? null, isNamed(stretch)]);
  });
  return found;
};

test("tokens of one expert are one stretch, named as soon as it has three letters", () => {
  assert.deepEqual(stretchesOf([["a", 0], ["b", 0], ["c", 0]]), [[0, false], [0, false], [0, true]]);
});

test("another expert begins another stretch", () => {
  assert.deepEqual(stretchesOf([["red", 0], [" door", 1]]), [[0, true], [1, true]]);
});

test("marks and spaces make no room for a name", () => {
  assert.deepEqual(stretchesOf([[" . ,", 0], ["!", 0]]), [[0, false], [0, false]]);
});

test("letters of every script count", () => {
  assert.deepEqual(stretchesOf([["дом", 0]]), [[0, true]]);
});

test("a token without routing weights ends a stretch", () => {
  assert.deepEqual(stretchesOf([["red", 0], ["x", null], ["blue", 0]]), [[0, true], [null, false], [2, true]]);
});

test("only words that the other answer has not are different", () => {
  assert.deepEqual(differentPlaces(["a", "b", "c"], ["a", "x", "c"]), new Set([1]));
  assert.deepEqual(differentPlaces(["a", "b"], ["a", "b"]), new Set());
  assert.deepEqual(differentPlaces([], ["a"]), new Set([0]));
});

test("very long answers are compared place by place", () => {
  const long = Array.from({ length: 1001 }, (_, place) => String(place));
  assert.deepEqual(differentPlaces(long, [...long.slice(0, -1), "x"]), new Set([1000]));
});

test("a line that is cut by the network waits for its end", () => {
  const first = wholeLines("", '{"text":"a"}\n{"te');
  assert.deepEqual(first.lines, ['{"text":"a"}']);
  assert.deepEqual(wholeLines(first.rest, 'xt":"b"}\n').lines, ['{"text":"b"}']);
});

test("a factor of one changes nothing", () => {
  const changes = new ExpertChanges();
  changes.setFactor("", 0, 0);
  assert.deepEqual(changes.asked(), { factors: { 0: 0 } });
  changes.setFactor("", 0, 1);
  assert.deepEqual(changes.asked(), { factors: {} });
});

test("changes of single layers are sent by their layer", () => {
  const changes = new ExpertChanges();
  changes.at("model.layers.3").force = 1;
  changes.at("model.layers.4");
  assert.deepEqual(changes.asked(), { layers: { "model.layers.3": { factors: {}, force: 1 } } });
});

test("the answerer is named with everything that was changed", () => {
  const runs = [{ id: 3, name: "first" }];
  const layers = { "model.layers.3": { factors: { 0: 0.5 } } };
  const message = { run_id: 3, settings: { step: 20, factors: { 1: 0 }, layers } };
  assert.equal(answererInWords(message, runs, NAMES), "first (run 3), step 20, without E2, 0.5 × E1 in layer 3");
  assert.equal(answererInWords({ run_id: 9, settings: { force: 0 } }, runs, NAMES), "run 9, only E1");
  assert.equal(answererInWords({ run_id: null, settings: {} }, runs, NAMES), "Base model");
});

test("the gap is the mean of the differences of logarithms", () => {
  assert.ok(Math.abs(gapOf({ here: [0.1, 0.1], own: [0.2, 0.05] })) < 1e-12);
  assert.match(gapInWords(gapOf({ here: [0.1], own: [0.2] })), /less likely here \(-0\.69/);
  assert.match(gapInWords(0), /as likely here/);
});

test("a probability of nothing stays finite", () => {
  assert.ok(Number.isFinite(gapOf({ here: [0], own: [0.5] })));
});

test("answers stand below their question, whatever their order", () => {
  const question = { id: 1, role: "user" };
  const answer = { id: 2, role: "assistant", reply_to: 1 };
  const stray = { id: 3, role: "assistant", reply_to: 9 };
  assert.deepEqual(groupsOf([question, answer, stray]), [{ question, answers: [answer] }]);
});

test("an id in the address is a whole number, or it says that it is none", () => {
  assert.equal(idInAddress("http://x/chat?run=12", "run"), 12);
  assert.equal(idInAddress("http://x/chat", "run"), null);
  assert.ok(Number.isNaN(idInAddress("http://x/chat?run=abc", "run")));
});

test("ids that are not chosen leave the address", () => {
  const address = withIds("http://x/chat?run=1&layer=2", { run: null, conversation: 5 });
  assert.equal(String(address), "http://x/chat?layer=2&conversation=5");
});

test("tokens are appended to the message that is written", () => {
  const message = { tokens: [], state: "writing" };
  applyLine(message, { text: "red", gates: GATES, id: 7, layers: ["a", "b"], dropped: 2 });
  applyLine(message, { text: " door", gates: null, id: 8 });
  assert.deepEqual(message.tokens, [["red", GATES, 7], [" door", null, 8]]);
  assert.equal(message.details.dropped, 2);
});

test("the end of an answer holds its text and how it ended", () => {
  const message = { tokens: [["red", null, 7]], state: "writing" };
  applyLine(message, { end: "failed", error: "Out of memory.", details: {} });
  assert.deepEqual([message.state, message.error, message.text], ["failed", "Out of memory.", "red"]);
});

test("what is waited for is said until the first token", () => {
  const message = { tokens: [] };
  applyLine(message, { state: "Loading the base model" });
  assert.equal(message.waiting, "Loading the base model …");
});

test("an answer that is whole already replaces what is known of it", () => {
  const message = { tokens: [], state: "writing" };
  applyLine(message, { whole: { state: "done", tokens: [["red", null, 7]] } });
  assert.deepEqual([message.state, message.tokens.length], ["done", 1]);
});

const RUNS = [{ id: 5 }, { id: 3 }];

test("without a wish the untuned base answers, in no conversation", () => {
  const found = chosenBy("http://x/chat", RUNS, [{ id: 1 }]);
  assert.deepEqual(found, { run: null, noRun: false, conversation: null, noConversation: false });
});

test("the run whose page this is answers", () => {
  assert.equal(chosenBy("http://x/run?run=3&tab=chat", RUNS, []).run, RUNS[1]);
});

test("nothing is chosen in the place of what does not exist", () => {
  for (const query of ["run=9&conversation=9", "run=abc&conversation=abc", "run=0&conversation=0"]) {
    const found = chosenBy(`http://x/chat?${query}`, RUNS, [{ id: 1 }]);
    assert.deepEqual(found, { run: null, noRun: true, conversation: null, noConversation: true });
  }
});

test("a conversation that is too old for the list can be opened", () => {
  const many = Array.from({ length: 200 }, (_, place) => ({ id: place + 100 }));
  assert.equal(chosenBy("http://x/chat?conversation=7", RUNS, many).conversation, 7);
});

test("an archived run is not offered", () => {
  assert.deepEqual(offered([{ id: 1, archived: true }, { id: 2, archived: false }]), [{ id: 2, archived: false }]);
});
