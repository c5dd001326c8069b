import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { TouchedFields } from "../../studio/static/touched.js";

const IDS = ["run-corpus", "field-max_steps", "field-seed"];
const LOADED = JSON.stringify({ "run-corpus": 1, "field-max_steps": 200 });
let fields;

const nested = (...ids) => ids.reduceRight((parentElement, id) => ({ id, parentElement, closest: () => null }), null);

beforeEach(() => {
  fields = new TouchedFields();
});

test("fields that nobody touched are filled", () => {
  assert.deepEqual(fields.untouched(IDS, LOADED), [1, 200, undefined]);
});

for (const kind of ["input", "change"]) {
  test(`what was typed stays after an event called ${kind}`, () => {
    const listeners = {};
    fields.listen({ addEventListener: (name, act) => (listeners[name] ??= []).push(act) });
    for (const act of listeners[kind]) act({ target: nested("", "field-max_steps", "page") });
    assert.deepEqual(fields.untouched(IDS, LOADED), [1, undefined, undefined]);
  });
}

test("what was typed before the modules had loaded stays", async () => {
  const listeners = {};
  const documentElement = { dataset: {} };
  globalThis.document = { documentElement, addEventListener: (name, act) => (listeners[name] = act) };
  await import("../../studio/static/early.js");
  listeners.input({ target: nested("", "field-max_steps", "page") });
  listeners.change({ target: nested("field-seed") });
  fields.listen({ addEventListener: () => {} }, documentElement.dataset.touched);
  delete documentElement.dataset.touched;
  listeners.input({ target: nested("run-corpus") });
  delete globalThis.document;
  assert.deepEqual(documentElement.dataset, {});
  assert.deepEqual(fields.untouched(IDS, LOADED), [1, undefined, undefined]);
});

test("a choice from a list that Gradio opens is a touch", () => {
  const listeners = {};
  fields.listen({ addEventListener: (name, act) => (listeners[name] ??= []).push(act) });
  for (const act of listeners.pointerdown) act({ target: { ...nested("run-corpus"), closest: () => ({}) } });
  assert.deepEqual(fields.untouched(["run-corpus"], LOADED), [undefined]);
});

test("a preset that is chosen afterwards fills the field again", () => {
  fields.touch(nested("field-max_steps"));
  fields.forget(["field-max_steps"]);
  assert.deepEqual(fields.untouched(IDS, LOADED), [1, 200, undefined]);
});

test("a field that is kept is left alone", () => {
  fields.keep(["run-corpus"]);
  assert.deepEqual(fields.untouched(IDS, LOADED), [undefined, 200, undefined]);
});

test("nothing to fill in leaves every field alone", () => {
  assert.deepEqual(fields.untouched(IDS, ""), [undefined, undefined, undefined]);
});
