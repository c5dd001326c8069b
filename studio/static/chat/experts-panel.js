/** Sliders that mute, weaken or force experts in the next answer. */

import { expertClass } from "../colours.js";
import { button, field, make, option } from "../dom.js";
import { shortLayer } from "./gates.js";
import { ExpertChanges } from "./variants.js";

const WAY = "0 mutes an expert, 1 leaves it as it is. Then press “Answer again” below an answer.";
const NO_ROUTER = "This method has no router, so there is no expert to change.";
const NO_RUN = "Choose a run with experts to mute, weaken or force them.";

export class ExpertsPanel {
  #changes = new ExpertChanges();

  constructor(state) {
    this.state = state;
    this.node = make("div");
    this.where = make("select", { "aria-label": "Layers in which experts are changed" });
    this.where.addEventListener("change", () => this.draw());
  }

  /** Another run was chosen: its experts are as they are. */
  reset() {
    this.#changes.clear();
    this.draw();
  }

  /** Mutes one expert in every layer. */
  mute(expert) {
    this.#changes.setFactor("", expert, 0);
    this.where.value = "";
    this.draw();
  }

  /** The changes as the studio takes them. */
  asked() {
    return this.#changes.asked();
  }

  draw() {
    const { run, layers } = this.state;
    const place = this.where.value;
    const choices = layers.map((name) => option(name, `only in ${shortLayer(name)}`));
    this.where.replaceChildren(option("", "in every layer"), ...choices);
    this.where.value = layers.includes(place) ? place : "";
    if (run && run.experts > 1) this.node.replaceChildren(...this.#parts(run.experts));
    else this.node.replaceChildren(make("p", { textContent: run ? NO_ROUTER : NO_RUN }));
  }

  #parts(count) {
    const experts = [...Array(count).keys()];
    const undo = button("Undo all changes", () => this.reset());
    return [
      make("p", { textContent: WAY }),
      field("Where", this.where),
      ...experts.map((expert) => this.#slider(expert)),
      field("Who may speak", this.#force(experts)),
      undo,
    ];
  }

  #slider(expert) {
    const place = this.where.value;
    const value = this.#changes.at(place).factors[expert] ?? 1;
    const name = this.state.names[expert];
    const shown = make("output", { textContent: value });
    const props = { type: "range", min: 0, max: 2, step: 0.25, value, "aria-label": `Strength of ${name}` };
    const slider = make("input", props);
    slider.addEventListener("input", () => {
      shown.textContent = slider.value;
      this.#changes.setFactor(place, expert, Number(slider.value));
    });
    const chip = make("span", { class: "hy-chip", textContent: name });
    return make("div", { class: `hy-expert ${expertClass(expert)}` }, chip, slider, shown);
  }

  #force(experts) {
    const change = this.#changes.at(this.where.value);
    const choices = experts.map((expert) => option(expert, `only ${this.state.names[expert]}`));
    const label = { "aria-label": "Let one expert speak alone" };
    const select = make("select", label, option("", "all experts"), ...choices);
    select.value = change.force ?? "";
    select.addEventListener("change", () => {
      change.force = select.value === "" ? null : Number(select.value);
    });
    return select;
  }
}
