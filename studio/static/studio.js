/* Panels that draw figures. Text from corpora and models only ever enters through textContent. */
(() => {
  "use strict";
  // A page that is left ends the requests it still waits for, and Gradio reports each as an error; it is none.
  let leaving = false;
  const report = console.error.bind(console);
  addEventListener("beforeunload", () => { leaving = true; setTimeout(() => { leaving = false; }, 3000); });
  console.error = (...words) => { if (!(leaving && words.some((w) => w?.name === "AbortError"))) report(...words); };
  const make = (tag, props = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key === "class") node.className = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key in node && key !== "list") node[key] = value;
      else node.setAttribute(key, value);
    }
    for (const child of children) node.append(child);
    return node;
  };

  const save = (name, text, type) => {
    const url = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 2000);
  };

  // A cell that a spreadsheet would run as a formula gets an apostrophe in front.
  const csvCell = (value) => {
    const text = String(value ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) && isNaN(Number(text)) ? "'" + text : text;
    return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };

  const tableNode = (table, caption) => {
    const head = make("tr", {}, ...table.head.map((t) => make("th", { scope: "col", textContent: t })));
    const rows = table.rows.slice(0, 500).map((row) =>
      make("tr", {}, ...row.map((t) => make("td", { textContent: t === null ? "" : String(t) }))));
    const node = make("table", { class: "hy-table" }, make("caption", { class: "visually-hidden", textContent: caption }),
      make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "tbl" }, node);
  };

  const colours = (element) => {
    const style = getComputedStyle(element);
    const get = (name) => style.getPropertyValue(name).trim();
    return { text: get("--body-text-color"), quiet: get("--body-text-color-subdued"),
      back: get("--background-fill-primary"), line: get("--border-color-primary"), font: get("--font"), accent: get("--color-accent") };
  };

  const paint = (figure, element) => {
    const c = colours(element);
    const layout = { ...figure.layout };
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { ...(layout.font || {}), color: c.text, family: c.font, size: 13 };
    layout.hoverlabel = { bgcolor: c.back, bordercolor: c.line, font: { color: c.text } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: c.quiet, activecolor: c.accent };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) layout[key] = { gridcolor: c.line, zerolinecolor: c.line, linecolor: c.line, ...layout[key] };
    }
    return layout;
  };

  function panel(element, props, trigger, watch) {
    const root = element.querySelector(".hy-plot");
    if (!root || root.dataset.wired) return;
    root.dataset.wired = "1";
    const host = root.querySelector(".pl-host");
    let turn = 0, current = null, stale = "";
    const say = (text) => {
      if (window.Plotly && host._fullLayout) window.Plotly.purge(host);
      host.replaceChildren(make("div", { class: "msg", textContent: text }));
      root.querySelectorAll(".hy-plot-bar,details").forEach((n) => n.remove());
      current = null;
    };
    const tools = (found) => {
      const opened = root.querySelector("details")?.open;
      root.querySelectorAll(".hy-plot-bar,details").forEach((n) => n.remove());
      const name = found.name || "figure";
      const image = (format) => window.Plotly.downloadImage(host, { format, filename: name, width: host.offsetWidth, height: host.offsetHeight });
      const csv = () => save(name + ".csv", [found.table.head, ...found.table.rows].map((r) => r.map(csvCell).join(",")).join("\n") + "\n", "text/csv");
      const button = (label, act) => make("button", { type: "button", textContent: label, title: "Download " + label, onclick: act });
      root.append(make("div", { class: "hy-plot-bar" }, make("span", { class: "aid", textContent: found.aid || "" }),
        make("span", { class: "tools" }, button("PNG", () => image("png")), button("SVG", () => image("svg")), button("CSV", csv))));
      const details = make("details", { open: !!opened }, make("summary", { textContent: "The same as a table" }), tableNode(found.table, name));
      root.append(details);
    };
    async function draw(force) {
      const value = props.value, my = ++turn;
      if (!value || !value.src) { stale = ""; return say(value?.empty || "Nothing to show yet."); }
      if (value.src !== stale || force) {
        try {
          const reply = await fetch(value.src);
          const found = await reply.json();
          if (my !== turn) return;
          if (!reply.ok || found.empty) { stale = value.src; return say(found.empty || found.detail || "This figure could not be loaded."); }
          current = found; stale = value.src;
        } catch (error) { return say("The studio cannot be reached. It is tried again when the page changes."); }
      }
      if (!current) return;
      for (let i = 0; i < 200 && !window.Plotly; i++) await new Promise((r) => setTimeout(r, 50));
      if (!window.Plotly) return say("The plotting script did not load. The table below holds the numbers.");
      if (my !== turn) return;
      if (!host._fullLayout) host.replaceChildren();
      await window.Plotly.react(host, current.figure.data, paint(current.figure, element), { responsive: true, displaylogo: false, showSendToCloud: false, showEditInChartStudio: false, modeBarButtonsToRemove: ["toImage", "sendChartToCloud"], displayModeBar: "hover" });
      host.setAttribute("role", "img");
      host.setAttribute("aria-label", (current.aid || current.name || "figure"));
      host.style.minHeight = "0";
      tools(current);
      if (!host._wired) {
        host._wired = true;
        const pick = (p) => ({ x: p.x, y: p.y, id: p.customdata });
        host.on("plotly_click", (e) => trigger("select", { kind: "click", points: e.points.slice(0, 1).map(pick) }));
        host.on("plotly_selected", (e) => e && trigger("select", { kind: "lasso", n: e.points.length, points: e.points.slice(0, 500).map(pick) }));
      }
    }
    watch("value", () => draw(false));
    draw(false);
    new ResizeObserver(() => host._fullLayout && host.offsetWidth && window.Plotly.Plots.resize(host)).observe(host);
    new MutationObserver(() => current && draw(false)).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }
  window.Hydra = { ...(window.Hydra || {}), panel, make, save, tableNode };
})();
