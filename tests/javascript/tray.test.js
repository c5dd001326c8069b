import assert from "node:assert/strict";
import test from "node:test";

import { wanted } from "../../studio/static/acts.js";
import { seenBefore } from "../../studio/static/seen-before.js";
import { withTab } from "../../studio/static/tab-bar.js";
import { summary } from "../../studio/static/tray.js";
import { actsOf, span, startInWords, timeLeft } from "../../studio/static/tray/rows.js";

const running = { ends: true, progress: 0.614, left: 1380 };

test("the closed tray counts what runs, how far it is and how long it takes", () => {
  assert.deepEqual(summary({ running: [running], waiting: [], failed: [] }), {
    count: "1 running",
    about: "61 %, about 23 min left",
    failed: "",
    share: 0.614,
  });
});

test("what waits and what failed is counted too, and a server that never ends is no work", () => {
  const found = summary({ running: [{ ends: false, progress: 0 }], waiting: [{}, {}], failed: [{}] });
  assert.deepEqual(found, { count: "2 waiting", about: "", failed: "1 failed", share: null });
  assert.equal(summary({ running: [], waiting: [], failed: [] }).count, "No jobs");
});

test("times have no more digits than a guess bears", () => {
  assert.deepEqual([39.6, 61, 3599, 3900].map(span), ["40 s", "1 min", "1 h 0 min", "1 h 5 min"]);
  assert.equal(timeLeft(null), "");
  assert.equal(timeLeft(0), "about 0 s left");
});

test("a job that waits says when it begins, or its place where nobody knows", () => {
  assert.equal(startInWords({ place: 1, starts: null }), "begins next");
  assert.equal(startInWords({ place: 3, starts: null }), "place 3");
  assert.equal(startInWords({ place: 2, starts: 180 }), "begins in about 3 min");
});

test("a job that waits can be moved, held and cancelled, one that runs stopped, one that failed nothing", () => {
  const asked = (job) => actsOf({ title: "Training", ...job }).map(([, what]) => what);
  assert.deepEqual(asked({ status: "queued" }), ["place/up", "place/down", "hold", "stop"]);
  assert.deepEqual(asked({ status: "queued", held: true }), ["place/up", "place/down", "release", "stop"]);
  assert.deepEqual(asked({ status: "running" }), ["stop"]);
  assert.deepEqual(asked({ status: "failed", error: "No." }), []);
  assert.equal(startInWords({ place: 1, starts: null, held: true }), "held");
});

test("another tab leaves the run and what is chosen in the address", () => {
  const found = withTab("http://x/run?run=3&layer=L1&mute=1&try=1", "chat");
  assert.equal(found.search, "?run=3&layer=L1&tab=chat");
});

test("a button tells what it does and what it is about", () => {
  assert.deepEqual(wanted({ dataset: { act: "stop", of: "7" } }), { act: "stop", of: 7 });
  assert.deepEqual(wanted({ dataset: { act: "sample" } }), { act: "sample", of: null });
});

test("what is new is told since the visit before this one, however often the page is loaded", () => {
  const storage = (values) => ({
    getItem: (key) => values[key] ?? null,
    setItem: (key, value) => {
      values[key] = value;
    },
  });
  const tab = storage({});
  assert.equal(seenBefore(tab, storage({ "hydra-seen": "100" })), 100);
  assert.equal(seenBefore(tab, storage({ "hydra-seen": "200" })), 100);
  assert.equal(seenBefore(storage({}), storage({})), 0);
});
