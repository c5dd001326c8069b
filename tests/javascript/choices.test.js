import assert from "node:assert/strict";
import test from "node:test";

import { chosen, named, start } from "../../studio/static/choices.js";

/** A select as far as the widget looks at it. */
function select(name, value, of) {
  const around = of === undefined ? null : { dataset: { of } };
  return { name, value, closest: () => around, matches: (what) => what === "select" };
}

/** What the widget stands on: it keeps listeners and gives the selects that it holds now. */
function root(selects) {
  const listeners = {};
  return {
    dataset: {},
    listeners,
    addEventListener: (kind, act) => {
      assert.equal(listeners[kind], undefined, "nothing is listened to twice");
      listeners[kind] = act;
    },
    querySelectorAll: () => selects,
  };
}

test("a choice says what it belongs to", () => {
  assert.deepEqual(chosen(select("column 0 3", "prompt", "17")), { name: "column 0 3", of: "17", value: "prompt" });
  assert.equal(chosen(select("a", "b")).of, "");
});

test("a select is found by a name of any characters", () => {
  const odd = select("a\"]'\\", "x");
  assert.equal(named(root([select("b", "y"), odd]), "a\"]'\\"), odd);
});

test("a change is sent once, also where the script runs again", () => {
  const element = root([]);
  const sent = [];
  for (let i = 0; i < 2; i++) start(element, {}, (kind, data) => sent.push([kind, data.value]), () => {});
  element.listeners.change({ target: select("a", "answer", "1") });
  element.listeners.change({ target: { matches: () => false } });
  assert.deepEqual(sent, [["select", "answer"]]);
});
