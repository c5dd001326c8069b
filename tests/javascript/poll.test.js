import assert from "node:assert/strict";
import test from "node:test";

import { createPoll } from "../../studio/static/poll.js";

/** A poll over replies that are given, with a clock that only moves when it is told to. */
function polling(replies) {
  const told = { changes: [], reached: [], asked: [], pauses: [] };
  let next = null;
  const page = { isHidden: false };
  const poll = createPoll({
    ask: async (stamp) => {
      told.asked.push(stamp);
      const reply = replies.shift() ?? null;
      if (reply instanceof Error) throw reply;
      return reply;
    },
    onChange: (stamp) => told.changes.push(stamp),
    onReach: (error) => told.reached.push(error?.message ?? "found"),
    isHidden: () => page.isHidden,
    clock: {
      set: (act, ms) => {
        told.pauses.push(ms);
        next = act;
        return act;
      },
      clear: () => {
        next = null;
      },
    },
  });
  const tick = async () => {
    const act = next;
    next = null;
    await act?.();
  };
  return { poll, told, page, tick, waits: () => next !== null };
}

const lost = () => new Error("lost");

test("the first stamp is no change", async () => {
  const { poll, told } = polling(["a"]);
  await poll.start();
  assert.deepEqual(told.changes, []);
});

test("what changed between the drawing of a page and its first question is told", async () => {
  const { poll, told } = polling(["b"]);
  await poll.start("a");
  assert.deepEqual(told.asked, ["a"]);
  assert.deepEqual(told.changes, ["b"]);
});

test("another stamp is a change, told once", async () => {
  const { poll, told, tick } = polling(["a", "b", null]);
  await poll.start();
  await tick();
  await tick();
  assert.deepEqual(told.changes, ["b"]);
  assert.deepEqual(told.asked, [null, "a", "b"]);
});

test("the same stamp is no change", async () => {
  const { poll, told, tick } = polling(["a", "a"]);
  await poll.start();
  await tick();
  assert.deepEqual(told.changes, []);
});

test("it asks every two seconds", async () => {
  const { poll, told, tick } = polling(["a"]);
  await poll.start();
  await tick();
  assert.deepEqual(told.pauses, [2000, 2000]);
});

test("a hidden page asks nothing, and once at its return", async () => {
  const { poll, told, page, tick, waits } = polling(["a", "b"]);
  await poll.start();
  page.isHidden = true;
  await poll.turn();
  await tick();
  assert.ok(!waits());
  assert.equal(told.asked.length, 1);
  page.isHidden = false;
  await poll.turn();
  assert.deepEqual(told.changes, ["b"]);
  assert.equal(told.asked.length, 2);
});

test("a page that is hidden while it asks does not go on asking", async () => {
  const { poll, page, waits } = polling(["a"]);
  page.isHidden = true;
  await poll.start();
  assert.ok(!waits());
});

test("while the studio is lost it asks less and less, up to ten seconds", async () => {
  const { poll, told, tick } = polling([lost(), lost(), lost(), lost(), "a"]);
  await poll.start();
  for (let round = 0; round < 4; round++) await tick();
  assert.deepEqual(told.pauses, [4000, 8000, 10000, 10000, 2000]);
});

test("another trouble than before is told too", async () => {
  const { poll, told, tick } = polling([new Error("lost"), new Error("signed out"), new Error("signed out"), "a"]);
  await poll.start();
  for (let i = 0; i < 3; i++) await tick();
  assert.deepEqual(told.reached, ["lost", "signed out", "found"]);
});

test("that the studio is lost is told once, and that it is found too", async () => {
  const { poll, told, tick } = polling(["a", lost(), lost(), "a"]);
  await poll.start();
  for (let round = 0; round < 3; round++) await tick();
  assert.deepEqual(told.reached, ["lost", "found"]);
  assert.deepEqual(told.changes, []);
});

test("a reply that comes after the poll was stopped changes nothing", async () => {
  const { poll, told, waits } = polling(["a"]);
  const asked = poll.start();
  poll.stop();
  await asked;
  assert.ok(!waits());
  assert.deepEqual(told.changes, []);
});

test("a poll that starts anew takes the next stamp as its first", async () => {
  const { poll, told } = polling(["a", "b"]);
  await poll.start();
  await poll.start();
  assert.deepEqual(told.asked, [null, null]);
  assert.deepEqual(told.changes, []);
});

test("it asks more often while news is expected soon, and as usual afterwards", async () => {
  const { poll, told, tick } = polling(["a", null, null]);
  poll.pace(500);
  await poll.start();
  await tick();
  poll.pace();
  await tick();
  assert.deepEqual(told.pauses, [500, 500, 2_000]);
});
