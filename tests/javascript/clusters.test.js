import assert from "node:assert/strict";
import test from "node:test";

import { mergeWords, nameOf, start, wanted } from "../../studio/static/clusters.js";

const button = (data) => ({ dataset: data, disabled: false, closest: () => null });

test("a button of a menu is about its own cluster, merging about what is ticked", () => {
  assert.deepEqual(wanted(button({ act: "rename", of: "3" }), ["0", "1"]), { act: "rename", of: [3] });
  assert.deepEqual(wanted(button({ act: "merge" }), ["0", "11"]), { act: "merge", of: [0, 11] });
});

test("beside the button stands why it cannot be pressed, or what it would do", () => {
  assert.equal(mergeWords([]), "Tick two clusters or more to merge them.");
  assert.equal(mergeWords(["C2"]), "Tick another one to merge it with C2.");
  assert.equal(mergeWords(["C1", "C2", "C9"]), "C1, C2 and C9 become one cluster.");
});

test("controls are told apart by what they do, and what does nothing has no name", () => {
  const names = [{ act: "split", of: "1" }, { act: "split", of: "2" }, { menu: "1" }, { tick: "1" }].map((dataset) =>
    nameOf({ dataset }),
  );
  assert.equal(new Set(names).size, 4);
  assert.equal(nameOf({ dataset: {} }) + nameOf(null), "");
});

/** What the widget stands on, with boxes and a button for merging. */
function root(boxes, merge, words) {
  const listeners = {};
  return {
    dataset: {},
    listeners,
    addEventListener: (kind, act) => {
      assert.equal(listeners[kind], undefined, "nothing is listened to twice");
      listeners[kind] = act;
    },
    querySelector: (what) => (what.startsWith("button") ? merge : words),
    querySelectorAll: (what) => (what.startsWith("input") ? boxes : []),
  };
}

test("what is ticked is sent once, and stays ticked when the list is drawn anew", () => {
  const body = {};
  globalThis.document = { body, activeElement: body, addEventListener: () => {} };
  const boxes = ["0", "1", "2"].map((tick) => ({ checked: false, dataset: { tick, name: `C${Number(tick) + 1}` } }));
  const merge = { dataset: { act: "merge" }, disabled: true };
  const words = {};
  const [sent, drawn] = [[], []];
  const element = root(boxes, merge, words);
  const trigger = (kind, data) => sent.push([kind, data]);
  for (let i = 0; i < 2; i++) start(element, {}, trigger, (_, draw) => drawn.push(draw));
  assert.ok(merge.disabled);
  boxes[0].checked = boxes[2].checked = true;
  element.listeners.change();
  assert.equal(merge.disabled, false);
  boxes[0].checked = false; // as drawn anew
  drawn[0]();
  assert.ok(boxes[0].checked && boxes[2].checked && words.textContent.startsWith("C1 and C3"));
  element.listeners.click({ target: { closest: (what) => (what.startsWith("button") ? merge : null) } });
  assert.deepEqual(sent, [["select", { act: "merge", of: [0, 2] }]]);
});
