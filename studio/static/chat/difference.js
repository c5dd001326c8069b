/** Where one answer differs from another. */

const MOST_PAIRS = 1e6; // of tokens that are compared; longer answers are compared place by place

/**
 * Places of `b` that are not part of the longest common subsequence of `a` and `b`.
 *
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Set<number>}
 */
export function differentPlaces(a, b) {
  if (a.length * b.length > MOST_PAIRS) return new Set([...b.keys()].filter((place) => a[place] !== b[place]));
  const longest = commonLengths(a, b);
  const found = new Set();
  for (let i = 0, j = 0; j < b.length; ) {
    if (i < a.length && a[i] === b[j]) {
      i += 1;
      j += 1;
    } else if (i < a.length && longest[i + 1][j] >= longest[i][j + 1]) i += 1;
    else found.add(j++);
  }
  return found;
}

/** `(a + 1, b + 1)`: the length of the longest common subsequence of what follows each pair of places. */
function commonLengths(a, b) {
  const longest = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const skipped = Math.max(longest[i + 1][j], longest[i][j + 1]);
      longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : skipped;
    }
  }
  return longest;
}
