/** A loop that a hand has drawn, thinned to a few corners that say the same. */

export const MOST_CORNERS = 400; // the studio takes no more

/** How far a place lies from the line between two others. */
function distance([x, y], [x1, y1], [x2, y2]) {
  const [across, up] = [x2 - x1, y2 - y1];
  const long = across * across + up * up;
  const share = long ? Math.min(1, Math.max(0, ((x - x1) * across + (y - y1) * up) / long)) : 0;
  return Math.hypot(x - x1 - share * across, y - y1 - share * up);
}

/** Corners without those that lie within a tolerance of the line through the rest (Douglas and Peucker 1973). */
export function simplify(corners, tolerance) {
  const kept = new Array(corners.length).fill(false);
  kept[0] = kept[corners.length - 1] = true;
  const pending = [[0, corners.length - 1]];
  while (pending.length) {
    const [first, last] = pending.pop();
    let [farthest, most] = [-1, tolerance];
    for (let place = first + 1; place < last; place += 1) {
      const away = distance(corners[place], corners[first], corners[last]);
      if (away > most) [farthest, most] = [place, away];
    }
    if (farthest < 0) continue;
    kept[farthest] = true;
    pending.push([first, farthest], [farthest, last]);
  }
  return corners.filter((_, place) => kept[place]);
}

/** The fewest corners that say the same within a pixel; coarser where they would be too many. */
export function thin(corners, most = MOST_CORNERS) {
  let found = corners;
  for (let tolerance = 1; found.length > 3 && (tolerance === 1 || found.length > most); tolerance *= 1.5) {
    found = simplify(corners, tolerance);
  }
  return found;
}

/** Whether a loop is wide enough to be meant, in pixels. */
export function isLoop(corners) {
  if (corners.length < 3) return false;
  const span = (axis) => Math.max(...corners.map((c) => c[axis])) - Math.min(...corners.map((c) => c[axis]));
  return span(0) > 4 && span(1) > 4;
}
