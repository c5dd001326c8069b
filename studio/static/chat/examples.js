/** Questions to try, from the corpus of the run that answers. */

import { button, make } from "../dom.js";
import { rove } from "../roving.js";
import { read } from "./requests.js";

const OF_BASE = ["Hello!", "What does a cow say?", "Tell me a story."];

export class Examples {
  #prompts = [];
  #drawing = Promise.resolve();

  /** @param {(text: string) => *} ask */
  constructor(ask) {
    this.ask = ask;
    this.node = make("div", { class: "hy-examples", role: "toolbar", "aria-label": "Examples" });
    this.roving = rove(this.node, "button");
  }

  /** The question at a place once they are known, empty where there is none. */
  async at(place) {
    await this.#drawing.catch(() => undefined); // whoever drew them is told
    return this.#prompts[place] ?? "";
  }

  /** @param {{run: object|null, noRun: boolean}} state */
  draw(state) {
    this.#drawing = this.#draw(state);
    return this.#drawing;
  }

  async #draw({ run, noRun }) {
    const prompts = noRun ? [] : run ? await read(`/examples/${run.id}`) : OF_BASE;
    this.#prompts = prompts;
    this.node.replaceChildren(...(prompts.length ? [make("span", { textContent: "Try" })] : []));
    for (const text of prompts) {
      const example = button(text, () => this.ask(text));
      this.node.append(example);
      this.roving.add(example);
    }
  }
}
