/** What stands beside the pointer: the text of a row, fetched when the pointer rests on its point. */

import { make } from "../dom.js";
import { sentence } from "../reply.js";

const REST = 120; // ms
const MOST_KEPT = 200; // texts

export class Tip {
  #texts = new Map();
  #timer = 0;
  #shown = -1;

  constructor(stage) {
    this.node = make("div", { class: "tip", hidden: true });
    stage.append(this.node);
  }

  hide() {
    clearTimeout(this.#timer);
    this.#shown = -1;
    this.node.hidden = true;
  }

  /** Shows a row beside a pixel once the pointer has rested there. */
  show(address, position, cluster, left, top) {
    if (position === this.#shown) return;
    this.hide();
    this.#shown = position;
    this.#timer = setTimeout(() => this.#fill(address, position, cluster, left, top), REST);
  }

  async #fill(address, position, cluster, left, top) {
    const row = await this.#row(address, position);
    if (position !== this.#shown) return;
    const line = (text, look) => make("p", { class: look, textContent: text });
    this.node.replaceChildren(line(`Row ${position}, ${cluster}`, "where"));
    for (const text of [row.prompt, row.answer ?? row.words]) if (text) this.node.append(line(text, "text"));
    this.node.hidden = false;
    const stage = this.node.parentElement;
    const room = (whole, own) => Math.max(0, whole - own - 4);
    this.node.style.left = `${Math.min(left + 14, room(stage.offsetWidth, this.node.offsetWidth))}px`;
    this.node.style.top = `${Math.min(top + 14, room(stage.offsetHeight, this.node.offsetHeight))}px`;
  }

  async #row(address, position) {
    if (this.#texts.has(position)) return this.#texts.get(position);
    try {
      const reply = await fetch(`${address}/${position}`);
      const body = await reply.json();
      if (!reply.ok) return { words: sentence(body, reply.status) };
      if (this.#texts.size >= MOST_KEPT) this.#texts.clear();
      this.#texts.set(position, body);
      return body;
    } catch {
      return { words: "The studio cannot be reached, so the text of this row is not known." };
    }
  }
}
