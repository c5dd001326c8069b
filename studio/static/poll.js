/** Asks again and again whether something changed: often while seen, never while hidden, rarely while it fails. */

const EVERY = 2_000; // ms
const RAREST = 10_000; // ms, while the studio cannot be reached

/**
 * A poll that is not started yet.
 *
 * @param {object} parts
 * @param {(stamp: string|null) => Promise<string|null>} parts.ask Gives the new stamp, or null where nothing changed.
 * @param {(stamp: string) => void} parts.onChange Called for every stamp but the first one known.
 * @param {(error: Error|null) => void} parts.onReach Called when the studio is lost, when it says
 *   something else than before (as that one is signed out), and when it is found again.
 * @param {() => boolean} parts.isHidden
 * @param {{set: (act: () => void, ms: number) => *, clear: (timer: *) => void}} parts.clock
 */
export function createPoll({ ask, onChange, onReach, isHidden, clock }) {
  let timer = null;
  let stamp = null;
  let every = EVERY;
  let pause = EVERY;
  let trouble = null; // why there was no answer the last time
  let round = 0; // a reply of an earlier round is dropped

  const later = () => {
    timer = isHidden() ? null : clock.set(look, pause);
  };
  const reached = (error) => {
    const now = error === null ? null : error.message;
    if (now !== trouble) onReach(error);
    trouble = now;
    pause = trouble === null ? every : Math.min(pause * 2, RAREST);
  };

  async function look() {
    const mine = ++round;
    let next = null;
    let error = null;
    try {
      next = await ask(stamp);
    } catch (problem) {
      error = problem;
    }
    if (mine !== round) return;
    reached(error);
    const isNews = next !== null && stamp !== null && next !== stamp;
    stamp = next ?? stamp;
    later();
    if (isNews) onChange(next);
  }

  const stop = () => {
    round += 1;
    if (timer !== null) clock.clear(timer);
    timer = null;
  };
  return {
    /** Begins anew, as for a page that was just opened; `drawn` is the stamp it was drawn at, where it is known. */
    start(drawn = null) {
      stop();
      stamp = drawn;
      pause = every;
      return look();
    },
    /** The page was hidden, or is seen again: then one look at once. */
    turn() {
      stop();
      return isHidden() ? Promise.resolve() : look();
    },
    /** How often it asks from the next look on, in ms; as usual where nothing is said. */
    pace(ms = EVERY) {
      every = ms;
      if (trouble === null) pause = every;
    },
    stop,
  };
}
