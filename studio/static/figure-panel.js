/** A panel that draws a figure of the studio: with title, reading aid, downloads and the same numbers as a table. */

import { resolveColours, valuesAt } from "./colours.js";
import { button, make, save, startOnce } from "./dom.js";
import { fitted } from "./figure-fit.js";
import { sentence } from "./reply.js";
import { csvText, tableNode } from "./table.js";

const LOST = "The studio cannot be reached. It is tried again when the page changes.";
const NO_PLOTLY = "The plotting script did not load. Reload the page.";
const PLOTLY_WAIT = 10_000; // ms
const MOST_PICKED = 500; // points of a loop that are sent
const CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  showEditInChartStudio: false,
  modeBarButtonsToRemove: ["toImage", "sendChartToCloud"],
  displayModeBar: "hover",
};

/** A figure's layout in the colours and the type of the page. */
function dressed(layout, element) {
  const valueOf = valuesAt(element);
  const look = { gridcolor: "var(--line)", zerolinecolor: "var(--line)", linecolor: "var(--line)" };
  const whole = { ...layout };
  whole.paper_bgcolor = whole.plot_bgcolor = "rgba(0,0,0,0)";
  whole.font = { ...whole.font, color: "var(--ink2)", family: valueOf("--font"), size: 12 };
  whole.hoverlabel = { bgcolor: "var(--raised)", bordercolor: "var(--line)", font: { color: "var(--ink)" } };
  whole.modebar = { bgcolor: "rgba(0,0,0,0)", color: "var(--ink2)", activecolor: "var(--ink)" };
  for (const key of Object.keys(whole)) if (/^[xy]axis\d*$/.test(key)) whole[key] = { ...look, ...whole[key] };
  return resolveColours(whole, valueOf);
}

async function plotly() {
  for (let waited = 0; !window.Plotly && waited < PLOTLY_WAIT; waited += 50) {
    await new Promise((go) => setTimeout(go, 50));
  }
  return window.Plotly;
}

const fold = (words, kind, open, inside) => {
  return make("details", { class: kind, open }, make("summary", { textContent: words }), inside);
};

/** Terms with their meaning, as pairs. */
const explained = (terms) => {
  const pairs = terms.flatMap(([name, meaning]) => [
    make("dt", { textContent: name }),
    make("dd", { textContent: meaning }),
  ]);
  return make("dl", {}, ...pairs);
};

const pick = (point) => ({ x: point.x, y: point.y, id: point.customdata });

class Panel {
  #round = 0; // a reply that a newer value has overtaken is dropped
  #drawn = null; // what is shown, as the studio sent it
  #source = ""; // where it came from
  #drawnFit = ""; // how names were fitted into the width

  constructor(root, element, trigger) {
    this.root = root;
    this.element = element;
    this.trigger = trigger;
    this.host = root.querySelector(".pl-host");
    this.least = this.host.style.minHeight;
  }

  /** Shows the figure of a value `{src, empty}`; `leads: false` where a click on it does nothing on this page. */
  async show(value) {
    const round = ++this.#round;
    this.leads = value?.leads !== false;
    if (!value?.src) {
      this.#source = "";
      this.#say(value?.empty || "Nothing to show yet.");
      return;
    }
    if (value.src !== this.#source) {
      if (!this.#drawn) this.#say("The figure is being fetched.");
      const found = await this.#fetch(value.src);
      if (round !== this.#round) return;
      this.#source = found.isLost ? "" : value.src;
      if (found.words) {
        this.#say(found.words);
        return;
      }
      this.#drawn = found.figure;
    }
    await this.draw();
  }

  async #fetch(src) {
    try {
      const reply = await fetch(src);
      const body = await reply.json();
      if (!reply.ok || body.empty) return { words: body.empty || sentence(body, reply.status) };
      return { figure: body };
    } catch {
      return { words: LOST, isLost: true };
    }
  }

  /** Draws what is there, in the colours of now. */
  async draw() {
    const round = this.#round;
    const found = this.#drawn;
    if (!found) return;
    if (!(await plotly())) {
      this.#say(NO_PLOTLY);
      return;
    }
    if (round !== this.#round) return;
    if (!this.host._fullLayout) this.host.replaceChildren();
    this.#stand(found.figure.layout?.height);
    const data = resolveColours(found.figure.data, valuesAt(this.element));
    const layout = fitted(found.figure.layout, this.host.offsetWidth);
    this.#drawnFit = this.#fit(found);
    await window.Plotly.react(this.host, data, dressed(layout, this.element), CONFIG);
    this.host.setAttribute("role", "figure");
    this.host.setAttribute("aria-label", [found.title, found.aid].filter(Boolean).join(". ") || "figure");
    this.#head(found.title);
    this.#foot(found);
    this.#listen();
  }

  /** What a width changes, in short: the room at the right, and the names at the left. */
  #fit({ figure }) {
    const { margin, yaxis } = fitted(figure.layout, this.host.offsetWidth);
    return JSON.stringify([margin?.r, yaxis?.ticktext]);
  }

  // Plotly measures the place it draws in again whenever the window changes; without a height of its own that is 0.
  #stand(height) {
    this.host.style.height = height ? `${height}px` : "";
    this.host.style.minHeight = height ? "0" : this.least;
  }

  #say(words) {
    if (window.Plotly && this.host._fullLayout) window.Plotly.purge(this.host);
    this.host.replaceChildren(make("div", { class: "msg", textContent: words }));
    this.host.removeAttribute("role");
    this.host.removeAttribute("aria-label");
    this.#stand(0);
    this.#head("");
    this.root.querySelectorAll(".hy-plot-bar,details").forEach((node) => node.remove());
    this.#drawn = null;
  }

  #head(title) {
    const words = title ? [make("h3", { class: "hy-plot-title", textContent: title })] : [];
    this.root.querySelector(".hy-plot-head").replaceChildren(...words);
  }

  #foot(found) {
    const wasOpen = (kind) => this.root.querySelector(`details.${kind}`)?.open ?? false;
    const open = { what: wasOpen("hy-what"), table: wasOpen("hy-numbers") };
    this.root.querySelectorAll(".hy-plot-bar,details").forEach((node) => node.remove());
    const name = found.name || "figure";
    const { offsetWidth: width, offsetHeight: height } = this.host;
    const tool = (words, act) => button(words, act, { title: `Download ${words}`, class: "hy-tool" });
    const image = (format) => window.Plotly.downloadImage(this.host, { format, filename: name, width, height });
    const tools = make(
      "span",
      { class: "tools" },
      tool("PNG", () => image("png")),
      tool("SVG", () => image("svg")),
      tool("CSV", () => save(`${name}.csv`, csvText(found.table), "text/csv")),
    );
    const words = [found.aid, this.leads ? found.hint : ""].filter(Boolean).join(" ");
    const aid = make("span", { class: "aid", textContent: words });
    this.root.append(make("div", { class: "hy-plot-bar" }, aid, tools));
    if (found.terms?.length) this.root.append(fold("What is this?", "hy-what", open.what, explained(found.terms)));
    this.root.append(fold("The same as a table", "hy-numbers", open.table, tableNode(found.table, name)));
  }

  #listen() {
    if (this.host._wired) return;
    this.host._wired = true;
    this.host.on("plotly_click", ({ points }) => {
      this.trigger("select", { kind: "click", points: points.slice(0, 1).map(pick) });
    });
    this.host.on("plotly_selected", (chosen) => {
      if (!chosen) return;
      const points = chosen.points.slice(0, MOST_PICKED).map(pick);
      this.trigger("select", { kind: "lasso", n: chosen.points.length, points });
    });
  }

  /** Plotly draws itself anew where its place has another size; names at the ends of lines are fitted here. */
  async resize() {
    if (!this.host._fullLayout || !this.host.offsetWidth) return;
    await window.Plotly.Plots.resize(this.host);
    if (!this.#drawn) return;
    if (this.#fit(this.#drawn) !== this.#drawnFit) await this.draw();
  }
}

/** The widget: its value is `{src, empty}`, its `select` events carry `{kind, points}`. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-plot"), (root) => {
    const panel = new Panel(root, element, trigger);
    watch("value", () => panel.show(props.value));
    panel.show(props.value);
    new ResizeObserver(() => panel.resize()).observe(panel.host);
    const onTheme = { attributes: true, attributeFilter: ["class"] };
    new MutationObserver(() => panel.draw()).observe(document.body, onTheme);
  });
}
