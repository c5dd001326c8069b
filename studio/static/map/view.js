/** Which part of the map is seen: from units of the map to pixels and back, with zoom and moves kept in bounds. */

import { LARGEST } from "./points.js";

const MARGIN = 24; // px around the outermost points
const MOST_ZOOM = 64;

export class View {
  width = 1; // px
  height = 1;
  zoom = 1; // 1 shows all
  x = LARGEST / 2; // what is seen in the middle, in units of the map
  y = LARGEST / 2;

  resize(width, height) {
    [this.width, this.height] = [Math.max(1, width), Math.max(1, height)];
  }

  /** Pixels for one unit of the map. */
  get scale() {
    const inside = (length) => Math.max(1, length - 2 * MARGIN);
    return { x: (inside(this.width) / LARGEST) * this.zoom, y: (inside(this.height) / LARGEST) * this.zoom };
  }

  /** Where a place of the map stands, `[left, top]` in pixels. */
  toScreen(x, y) {
    const scale = this.scale;
    return [this.width / 2 + (x - this.x) * scale.x, this.height / 2 - (y - this.y) * scale.y];
  }

  /** The place of the map at a pixel. */
  toMap(left, top) {
    const scale = this.scale;
    return [this.x + (left - this.width / 2) / scale.x, this.y - (top - this.height / 2) / scale.y];
  }

  /** Zooms by a factor around a pixel, which keeps its place. */
  zoomAt(left, top, factor) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    const [nowX, nowY] = this.toMap(left, top);
    this.#moveTo(this.x + x - nowX, this.y + y - nowY);
  }

  /** Moves what is seen by so many pixels. */
  pan(right, down) {
    const scale = this.scale;
    this.#moveTo(this.x - right / scale.x, this.y + down / scale.y);
  }

  reset() {
    [this.zoom, this.x, this.y] = [1, LARGEST / 2, LARGEST / 2];
  }

  /** Scale and offset that lead from places of 0 to 1 to the square of -1 to 1 that WebGL draws. */
  get clip() {
    const scale = this.scale;
    const [across, up] = [(2 * scale.x * LARGEST) / this.width, (2 * scale.y * LARGEST) / this.height];
    return [across, up, (-across * this.x) / LARGEST, (-up * this.y) / LARGEST];
  }

  // The middle stays where half of what is seen is still map.
  #moveTo(x, y) {
    const room = LARGEST / 2 - LARGEST / (2 * this.zoom);
    const within = (value) => Math.min(LARGEST / 2 + room, Math.max(LARGEST / 2 - room, value));
    [this.x, this.y] = [within(x), within(y)];
  }
}
