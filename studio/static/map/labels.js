/** Names of clusters on the map: the largest first, and none over another. */

const HEIGHT = 18; // px
const LETTER = 7; // px, about

/**
 * Which names can stand where, largest cluster first.
 *
 * @param {{name: string, size: number}[]} clusters
 * @param {([number, number]|null)[]} places Middle of each name in pixels.
 * @param {number} width Of what is seen, in pixels.
 * @returns {{number: number, left: number, top: number}[]}
 */
export function placeNames(clusters, places, width, height) {
  const order = clusters.map((_, number) => number).sort((a, b) => clusters[b].size - clusters[a].size);
  const taken = [];
  for (const number of order) {
    if (!places[number]) continue;
    const half = (clusters[number].name.length * LETTER) / 2 + 4;
    const [x, top] = places[number];
    if (x < 0 || x > width || top < 0 || top > height) continue;
    const left = Math.min(Math.max(x, half), Math.max(half, width - half));
    const meets = (other) => Math.abs(other.left - left) < other.half + half && Math.abs(other.top - top) < HEIGHT;
    if (!taken.some(meets)) taken.push({ number, left, top, half });
  }
  return taken.map(({ number, left, top }) => ({ number, left, top }));
}
