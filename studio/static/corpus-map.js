/** The map of a corpus: all its points, their clusters by colour and shape, and what is selected. */

import { valuesAt } from "./colours.js";
import { button, make, startOnce } from "./dom.js";
import { shares } from "./map/colour.js";
import { Grid } from "./map/grid.js";
import { placeNames } from "./map/labels.js";
import { LoopDrawer } from "./map/loop-drawer.js";
import { Painter } from "./map/painter.js";
import { centres, countByCluster, readMask, readPoints } from "./map/points.js";
import { listen } from "./map/pointer.js";
import { Tip } from "./map/tip.js";
import { View } from "./map/view.js";
import { readReply } from "./reply.js";
import { tableNode } from "./table.js";

const NO_WEBGL = "This browser has no WebGL2, so no map is drawn. The fields above and the table below select alike.";
const LOST = "The studio cannot be reached. The map is tried again when the page changes.";
const KEYS_SAY = "Arrow keys move it, plus and minus zoom, 0 shows all.";
const HINT = "Drag to move; Ctrl and wheel zoom.";
const SELECTS = " By keyboard, select with the fields above.";
const MOST_RATIO = 2; // pixels of the canvas for one of the page
const MOST_LEGEND = 12;

class CorpusMap {
  #value = null;
  #points = null;
  #grid = null;
  #mask = null;
  #middles = [];
  #round = 0; // a reply that a newer value has overtaken is dropped
  #source = "";
  #isWaiting = false; // for the next frame

  constructor(root, element, trigger) {
    this.root = root;
    this.element = element;
    this.trigger = trigger;
    this.view = new View();
    this.isLooping = false;
    this.#build();
    this.painter = Painter.on(this.canvas);
    this.#listen();
  }

  #build() {
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.names = make("div", { class: "names", "aria-hidden": "true" });
    this.ring = make("i", { class: "ring", hidden: true });
    this.stage = make("div", { class: "stage", tabIndex: 0 }, this.canvas, this.names, this.ring);
    this.stage.setAttribute("role", "application");
    this.draws = button("Draw a loop", () => this.#setLooping(!this.isLooping), { "aria-pressed": "false" });
    const zoom = (factor) => () => {
      this.view.zoomAt(this.view.width / 2, this.view.height / 2, factor);
      this.changed();
    };
    const all = () => {
      this.view.reset();
      this.changed();
    };
    this.hint = make("span", { class: "hint" });
    this.tools = make(
      "div",
      { class: "tools" },
      this.draws,
      button("+", zoom(1.6), { "aria-label": "Zoom in" }),
      button("−", zoom(1 / 1.6), { "aria-label": "Zoom out" }),
      button("Show all", all),
      this.hint,
    );
    this.legend = make("ul", { class: "legend", "aria-label": "Clusters" });
    this.aid = make("p", { class: "aid" });
    this.table = make("details", {});
    this.message = make("p", { class: "msg", role: "status" });
    const svg = this.root.querySelector("svg"); // of the template: a script could make none without its address
    this.stage.append(svg);
    const done = (loop) => this.trigger("select", { kind: "loop", loop });
    this.loop = new LoopDrawer(svg.querySelector("polygon"), this.view, done);
    this.tip = new Tip(this.stage);
    this.root.append(this.message, this.tools, this.stage, this.legend, this.aid, this.table);
  }

  #listen() {
    listen(this.stage, this);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => this.#fillPainter());
    new ResizeObserver(() => this.#resize()).observe(this.stage);
    const onTheme = { attributes: true, attributeFilter: ["class"] };
    new MutationObserver(() => this.#paint()).observe(document.body, onTheme);
  }

  /** Shows a value as `studio.figures.corpus_map.map_value` makes it. */
  async show(value) {
    const round = ++this.#round;
    if (!value?.src) {
      this.#source = "";
      this.#say(value?.empty ?? "");
      return;
    }
    if (!this.painter) {
      this.#value = value;
      this.#say(NO_WEBGL);
      return;
    }
    if (value.src !== this.#source) {
      const found = await this.#fetch(value.src);
      if (round !== this.#round) return;
      if (!found.points) {
        this.#source = "";
        this.#say(found.words);
        return;
      }
      this.#take(found.points, value);
    }
    this.#value = value;
    this.#mask = readMask(value.selected, this.#points.count);
    this.painter.setMask(this.#mask);
    this.#say("");
    this.#describe();
    this.#resize();
  }

  async #fetch(src) {
    try {
      const reply = await fetch(src);
      if (!reply.ok) await readReply(reply);
      return { points: readPoints(await reply.arrayBuffer()) };
    } catch (error) {
      return { words: error.refused ? error.message : LOST };
    }
  }

  #take(points, value) {
    this.#source = value.src;
    this.#points = points;
    this.#value = value;
    this.#mask = readMask("", points.count);
    this.#grid = new Grid(points);
    this.#middles = centres(points, value.clusters.length);
    this.view.reset();
    this.#fillPainter();
  }

  #fillPainter() {
    if (!this.painter || !this.#points) return;
    this.painter.begin(this.#value.shapes);
    this.painter.setPoints(this.#points);
    this.painter.setMask(this.#mask);
    this.#paint();
  }

  /** In the colours of now. */
  #paint() {
    if (!this.painter || !this.#value) return;
    const valueOf = valuesAt(this.element);
    this.painter.setColours(this.#value.colours.map((name) => shares(valueOf(name))));
    this.changed();
  }

  #say(words) {
    const hasMap = !words;
    this.message.textContent = words;
    this.message.hidden = hasMap;
    for (const part of [this.tools, this.stage, this.legend, this.aid]) part.hidden = !hasMap;
    this.table.hidden = !hasMap && !this.#value;
    this.root.classList.toggle("is-empty", !hasMap);
  }

  #describe() {
    const { count, aid, selects } = this.#value;
    this.draws.hidden = !selects; // a map to look at only
    this.hint.textContent = HINT + (selects ? SELECTS : "");
    const counts = countByCluster(this.#points.cluster, this.#mask, this.#value.clusters.length);
    // A number of which no row is left was merged into another cluster.
    const clusters = this.#value.clusters.map((c, number) => ({ ...c, chosen: counts[number] })).filter((c) => c.size);
    const chosen = counts.reduce((sum, some) => sum + some, 0);
    this.stage.setAttribute(
      "aria-label",
      `Map of ${count.toLocaleString("en")} rows in ${clusters.length} clusters, ` +
        `${chosen.toLocaleString("en")} selected. ${KEYS_SAY} The same numbers stand in the table below it.`,
    );
    this.aid.textContent = aid;
    const item = ({ name, look }) => make("li", {}, make("span", { class: `hy-chip ${look}`, textContent: name }));
    this.legend.replaceChildren(...clusters.slice(0, MOST_LEGEND).map(item));
    if (clusters.length > MOST_LEGEND) {
      this.legend.append(make("li", { textContent: `and ${clusters.length - MOST_LEGEND} more in grey` }));
    }
    const rows = clusters.map(({ name, size, chosen: some }) => [name, size, some]);
    const table = tableNode({ head: ["Cluster", "Rows", "Selected"], rows }, "Rows of each cluster, and selected ones");
    const summary = make("summary", { textContent: "The same as a table" });
    this.table.replaceChildren(summary, table);
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width || !this.painter) return;
    const ratio = Math.min(MOST_RATIO, window.devicePixelRatio || 1);
    this.view.resize(width, height);
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== across) this.canvas.width = across;
    if (this.canvas.height !== down) this.canvas.height = down;
    this.ratio = ratio;
    this.changed();
  }

  /** What is seen has changed: it is drawn with the next frame, once. */
  changed() {
    this.tip.hide();
    this.ring.hidden = true;
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    requestAnimationFrame(() => {
      this.#isWaiting = false;
      this.#draw();
    });
  }

  #draw() {
    if (!this.#points || !this.#value) return;
    this.painter.draw(this.view, this.ratio ?? 1);
    this.loop.draw(this.#value.loop ?? []);
    const places = this.#middles.map((middle) => middle && this.view.toScreen(...middle));
    const shown = placeNames(this.#value.clusters, places, this.view.width, this.view.height);
    this.names.replaceChildren(
      ...shown.map(({ number, left, top }) => {
        const { name } = this.#value.clusters[number];
        const node = make("span", { textContent: name });
        node.style.transform = `translate(${left.toFixed(1)}px, ${top.toFixed(1)}px) translate(-50%, -50%)`;
        return node;
      }),
    );
  }

  /** The point within `reach` pixels of a pixel, or -1. */
  nearest(left, top, reach) {
    return this.#grid ? this.#grid.nearest(...this.view.toMap(left, top), this.view.scale, reach) : -1;
  }

  /** The pointer is over a point, or over none (-1). */
  point(number, left, top) {
    this.ring.hidden = number < 0;
    if (number < 0) {
      this.tip.hide();
      return;
    }
    const [x, y] = this.view.toScreen(this.#points.x[number], this.#points.y[number]);
    this.ring.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
    const cluster = this.#value.clusters[this.#points.cluster[number]]?.name ?? "";
    this.tip.show(this.#value.rows, number, cluster, left, top);
  }

  click(number) {
    if (number >= 0) this.trigger("select", { kind: "click", rows: [number] });
  }

  stopLooping() {
    this.loop.cancel();
    this.#setLooping(false);
    this.changed();
  }

  #setLooping(isLooping) {
    this.isLooping = isLooping;
    this.draws.setAttribute("aria-pressed", String(isLooping));
    this.draws.textContent = isLooping ? "Draw around the rows" : "Draw a loop";
    this.stage.classList.toggle("loops", isLooping);
    this.tip.hide();
  }
}

/** The widget. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-map"), (root) => {
    const map = new CorpusMap(root, element, trigger);
    watch("value", () => map.show(props.value));
    map.show(props.value);
  });
}
