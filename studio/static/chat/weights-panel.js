/** The routing weights of a word, or of an answer, as bars, and who leads in every layer. */

import { expertClass } from "../colours.js";
import { make } from "../dom.js";
import { layerMeans, leaderOf, meanOf, percent, shortLayer, shownRow } from "./gates.js";

const HOW = "Point at a word of an answer, or go to the answer with Tab and through it with the arrow keys.";

export class WeightsPanel {
  constructor(state) {
    this.state = state;
    this.node = make("div", { "aria-live": "off" });
  }

  showNothing() {
    this.node.replaceChildren(make("p", { textContent: HOW }));
  }

  showToken(text, gates) {
    const row = shownRow(gates, this.state.layer);
    if (!row) return;
    const { layer, layers } = this.state;
    const place = layer === "all" ? "mean of all layers" : shortLayer(layers[Number(layer)] ?? "");
    this.#show(`“${text.trim()}”, ${place}`, row, gates);
  }

  /** The mean over an answer, as far as it is written. */
  showAnswer(tokens) {
    const rows = tokens.map((token) => shownRow(token[1], this.state.layer)).filter(Boolean);
    if (rows.length) this.#show(`This answer so far, ${rows.length} tokens`, meanOf(rows), layerMeans(tokens));
    else this.showNothing();
  }

  #show(title, row, gates) {
    const bars = row.map((share, expert) => this.#bar(expert, share));
    this.node.replaceChildren(make("p", { textContent: title }), ...bars, ...this.#strip(gates));
  }

  #bar(expert, share) {
    const fill = make("i");
    fill.style.width = `${Math.min(100, 100 * share)}%`;
    return make(
      "div",
      { class: `hy-gate ${expertClass(expert)}` },
      make("span", { class: "hy-chip", textContent: this.state.names[expert] }),
      make("span", { class: "track" }, fill),
      make("span", { class: "share", textContent: percent(share) }),
    );
  }

  #strip(gates) {
    if (!gates || gates.length < 2) return [];
    const marks = gates.map((row) => make("i", { class: expertClass(leaderOf(row)) }));
    const strip = make("div", { class: "hy-strip", "aria-hidden": "true" }, ...marks);
    strip.style.gridTemplateColumns = `repeat(${gates.length}, 1fr)`;
    const counts = new Map();
    for (const row of gates) counts.set(leaderOf(row), (counts.get(leaderOf(row)) ?? 0) + 1);
    const [[first, count]] = [...counts].sort((a, b) => b[1] - a[1]);
    const words = `${this.state.names[first]} leads in ${count} of ${gates.length} layers; first layer at the left`;
    return [strip, make("p", { class: "hy-quiet", textContent: words })];
  }
}
