/** Finds the point under the pointer: all points by the cell of a grid that they lie in. */

import { LARGEST } from "./points.js";

const CELLS = 256; // along each side
const cellOf = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor((value * CELLS) / (LARGEST + 1))));

/** Points sorted by cell, so that a look at a few cells finds what is near. */
export class Grid {
  #x;
  #y;
  #starts = new Uint32Array(CELLS * CELLS + 1); // where each cell begins in #order
  #order;

  constructor({ x, y, count }) {
    this.#x = x;
    this.#y = y;
    this.#order = new Uint32Array(count);
    const cells = new Uint32Array(count);
    for (let point = 0; point < count; point += 1) {
      cells[point] = cellOf(y[point]) * CELLS + cellOf(x[point]);
      this.#starts[cells[point] + 1] += 1;
    }
    for (let cell = 0; cell < CELLS * CELLS; cell += 1) this.#starts[cell + 1] += this.#starts[cell];
    const next = this.#starts.slice();
    for (let point = 0; point < count; point += 1) {
      this.#order[next[cells[point]]] = point;
      next[cells[point]] += 1;
    }
  }

  /**
   * The nearest point within a distance on the screen, or -1.
   *
   * @param {number} x In units of the map, as `y`.
   * @param {{x: number, y: number}} scale Pixels for one unit of the map.
   * @param {number} reach Pixels.
   */
  nearest(x, y, scale, reach) {
    let [best, least] = [-1, reach * reach];
    const [left, right] = [cellOf(x - reach / scale.x), cellOf(x + reach / scale.x)];
    const [low, high] = [cellOf(y - reach / scale.y), cellOf(y + reach / scale.y)];
    for (let row = low; row <= high; row += 1) {
      const end = this.#starts[row * CELLS + right + 1];
      for (let place = this.#starts[row * CELLS + left]; place < end; place += 1) {
        const point = this.#order[place];
        const distance = ((this.#x[point] - x) * scale.x) ** 2 + ((this.#y[point] - y) * scale.y) ** 2;
        if (distance <= least) [best, least] = [point, distance];
      }
    }
    return best;
  }
}
