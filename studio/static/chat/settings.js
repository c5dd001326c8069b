/** Who answers and how the answer is drawn: the choices above the thread, and the fold at its right. */

import { field, make, option } from "../dom.js";
import { shortLayer } from "./gates.js";

const number = (label, value, min, max, step) => {
  return make("input", { type: "number", value, min, max, step, "aria-label": label });
};
const select = (label) => make("select", { "aria-label": label });

/** How words are drawn. */
export class DrawSettings {
  constructor() {
    this.temperature = number("Temperature", 0, 0, 2, 0.1);
    this.topP = number("Top-p", 0.95, 0.05, 1, 0.05);
    this.maxTokens = number("Longest answer", 96, 1, 4096, 1);
    this.seed = number("Seed", 0, 0, 2147483647, 1);
    this.system = make("textarea", { rows: 2, "aria-label": "System text" });
    this.node = make(
      "details",
      {},
      make("summary", { textContent: "How answers are drawn" }),
      field("Temperature (0 is greedy: always the likeliest word)", this.temperature),
      field("Top-p: only the likeliest words up to this share", this.topP),
      field("Longest answer (tokens)", this.maxTokens),
      field("Seed: same seed, same answer", this.seed),
      field("System text: said before every conversation turn", this.system),
    );
  }

  asked() {
    return {
      temperature: Number(this.temperature.value),
      top_p: Number(this.topP.value),
      max_tokens: Number(this.maxTokens.value),
      seed: Number(this.seed.value),
    };
  }
}

/** Run, step, comparison and layer. */
/** The runs to choose from: an archived one answers on its own page only. */
export function offered(runs) {
  return runs.filter((run) => !run.archived);
}

export class Choices {
  constructor(state) {
    this.state = state;
    this.run = select("Who answers");
    this.step = select("State of the run");
    this.compare = select("Compare with");
    this.layer = select("Layer shown");
    const own = [field("As it was", this.step), field("Compare with", this.compare)];
    // On the page of a run it answers itself, in the layer that is chosen there for everything.
    const asked = state.pinned ? [] : [field("Who answers", this.run), field("Colours show", this.layer)];
    this.node = make("div", { class: "hy-picks" }, ...asked, ...own);
  }

  drawRuns() {
    const runs = offered(this.state.runs).map((run) => option(run.id, `${run.name} (run ${run.id})`));
    this.run.replaceChildren(...runs, option("", "the starter, untuned"));
    this.run.value = "";
  }

  /** What goes with the chosen run: its steps, and what it can be compared with. */
  drawRun() {
    const { run, runs } = this.state;
    const steps = run?.steps ?? [];
    const end = (run?.finished ?? true) ? [option("", "at its end")] : [];
    const newestFirst = [...steps].reverse();
    this.step.replaceChildren(...end, ...newestFirst.map((step) => option(step, `at step ${step}`)));
    const others = offered(runs).filter((other) => other.id !== run?.id && other.finished);
    this.compare.replaceChildren(
      option("", "nothing"),
      ...(run ? [option("base", "its base model, untuned")] : []),
      ...steps.map((step) => option(`step:${step}`, `the same run at step ${step}`)),
      ...others.map((other) => option(other.id, `${other.name} (run ${other.id})`)),
    );
  }

  drawLayers() {
    const layers = this.state.layers.map((name, place) => option(place, shortLayer(name)));
    this.layer.replaceChildren(option("all", "mean of all layers"), ...layers);
    this.layer.value = this.state.layer;
  }

  /** What is compared with, as the studio takes it; null for nothing. */
  compared() {
    const chosen = this.compare.value;
    if (chosen === "base") return { base_of: this.state.run.id };
    if (chosen.startsWith("step:")) return { run_id: this.state.run.id, step: Number(chosen.slice(5)) };
    return chosen ? { run_id: Number(chosen) } : null;
  }
}
