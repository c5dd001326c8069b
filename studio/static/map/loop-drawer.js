/** Draws a loop over the map with the pointer, and shows the one that is selected. */

import { isLoop, thin } from "./loop.js";

export class LoopDrawer {
  #corners = null; // while one is drawn, in pixels

  /**
   * @param {SVGPolygonElement} shape What shows it.
   * @param {import("./view.js").View} view
   * @param {(loop: number[][]) => void} done Called with the corners in units of the map.
   */
  constructor(shape, view, done) {
    this.shape = shape;
    this.view = view;
    this.done = done;
  }

  get isDrawing() {
    return this.#corners !== null;
  }

  begin(place) {
    this.#corners = [place];
  }

  add(place) {
    this.#corners.push(place);
    this.#show(this.#corners);
  }

  /** Ends the loop: what is too small to be one is dropped. */
  end() {
    const corners = this.#corners ?? [];
    this.#corners = null;
    if (!isLoop(corners)) {
      this.#show([]);
      return;
    }
    this.done(thin(corners).map(([left, top]) => this.view.toMap(left, top).map(Math.round)));
  }

  cancel() {
    this.#corners = null;
    this.#show([]);
  }

  /** Shows a loop given in units of the map. */
  draw(corners) {
    if (!this.isDrawing) this.#show(corners.map(([x, y]) => this.view.toScreen(x, y)));
  }

  #show(corners) {
    this.shape.setAttribute("points", corners.map(([left, top]) => `${left.toFixed(1)},${top.toFixed(1)}`).join(" "));
  }
}
