/** Points of a map as the studio sends them: all x, all y (uint16), all clusters (uint8). */

export const LARGEST = 65_535; // both axes reach from 0 to this
const BYTES = 5; // of one point

/**
 * The points of a reply, as views of it: nothing is copied.
 *
 * @param {ArrayBuffer} buffer
 */
export function readPoints(buffer) {
  if (buffer.byteLength % BYTES) throw new RangeError(`${buffer.byteLength} bytes are not a whole number of points`);
  const count = buffer.byteLength / BYTES;
  return {
    count,
    x: new Uint16Array(buffer, 0, count),
    y: new Uint16Array(buffer, 2 * count, count),
    cluster: new Uint8Array(buffer, 4 * count, count),
  };
}

/** Which points are selected, one byte each, from bits in base64 (the lowest bit first); all where it is empty. */
export function readMask(text, count) {
  if (!text) return new Uint8Array(count).fill(1);
  const bits = atob(text);
  const mask = new Uint8Array(count);
  for (let point = 0; point < count; point += 1) mask[point] = (bits.charCodeAt(point >> 3) >> (point & 7)) & 1;
  return mask;
}

/** Selected points of each cluster. */
export function countByCluster(cluster, mask, clusters) {
  const counts = new Array(clusters).fill(0);
  for (let point = 0; point < cluster.length; point += 1) if (mask[point]) counts[cluster[point]] += 1;
  return counts;
}

/** The middle of each cluster, `[x, y]`, or null for one without points. */
export function centres({ x, y, cluster }, clusters) {
  const sums = Array.from({ length: clusters }, () => [0, 0, 0]);
  for (let point = 0; point < cluster.length; point += 1) {
    const sum = sums[cluster[point]];
    if (!sum) continue;
    sum[0] += x[point];
    sum[1] += y[point];
    sum[2] += 1;
  }
  return sums.map(([across, up, count]) => (count ? [across / count, up / count] : null));
}
