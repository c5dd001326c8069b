/** Stretches: tokens after one another that have the same leading expert. Each says its expert's name once. */

const LEAST_LETTERS = 3; // a shorter stretch has no room for a name below it

const lettersIn = (text) => text.match(/[\p{L}\p{N}]/gu)?.length ?? 0;

/**
 * The stretch that a further token belongs to.
 *
 * @param {{start: number, expert: number, letters: number}|null} stretch The one of the token before.
 * @param {number} place Of the token, from 0.
 * @param {number|null} expert Who leads; null where there are no routing weights, which ends a stretch.
 * @param {string} text
 */
export function continueStretch(stretch, place, expert, text) {
  if (expert === null) return null;
  if (stretch?.expert === expert) return { ...stretch, letters: stretch.letters + lettersIn(text) };
  return { start: place, expert, letters: lettersIn(text) };
}

/** Whether there is room for the name. */
export function isNamed(stretch) {
  return stretch !== null && stretch.letters >= LEAST_LETTERS;
}
