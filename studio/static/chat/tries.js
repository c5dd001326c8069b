/** Three things to try at the end of the tour: ask, mute an expert, compare with the base. */

import { button, make } from "../dom.js";

const MUTED = 1; // E2

export class Tries {
  /**
   * @param {Location} address They are shown where it says `try`.
   * @param {{ask: (place: number) => *, mute: (expert: number) => *, compare: () => *}} acts
   */
  constructor(address, acts) {
    const isShown = new URL(address).searchParams.has("try");
    const steps = [
      ["1 Ask it something", () => acts.ask(0)],
      ["2 Mute E2 and ask again", () => acts.mute(MUTED)],
      ["3 Compare with the base", () => acts.compare()],
    ];
    this.node = make("section", { class: "hy-tries", hidden: !isShown, "aria-label": "Three things to try" });
    this.node.append(make("b", { textContent: "Three things to try:" }));
    for (const [words, act] of steps) this.node.append(this.#step(words, act));
  }

  /** One that was tried says so. */
  #step(words, act) {
    const step = button(words, () => {
      step.classList.add("tried");
      act();
    });
    return step;
  }
}
