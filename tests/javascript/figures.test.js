import assert from "node:assert/strict";
import test from "node:test";

import { fitted, shortened } from "../../studio/static/figure-fit.js";

const NAMED = { xanchor: "left", text: "<b>LoRA &amp; a rather long name, 12 runs</b>" };
const LAYOUT = { margin: { l: 56, r: 228 }, annotations: [NAMED, { xanchor: "center", text: "chance" }] };

test("names take at most a part of a narrow figure", () => {
  const narrow = fitted(LAYOUT, 320);
  assert.equal(narrow.margin.r, 115);
  assert.equal(narrow.annotations[0].text, "<b>LoRA &amp; a rat…</b>");
  assert.equal(narrow.annotations[1].text, "chance");
});

test("where there is room a layout stays as it is", () => {
  assert.equal(fitted(LAYOUT, 900), LAYOUT);
  assert.equal(fitted({ margin: { r: 16 } }, 20).margin.r, 16);
});

test("an escaped letter is not cut in two", () => {
  assert.equal(shortened("&lt;&gt;&amp;&quot;", 3), "&lt;&gt;…");
});

test("a narrow figure has shorter names at its left and fewer ticks", () => {
  const layout = { xaxis: { nticks: 6 }, yaxis: { ticktext: ["HydraLoRA, two experts only", "LoRA"] } };
  const narrow = fitted(layout, 300);
  assert.deepEqual(narrow.yaxis.ticktext, ["HydraLoRA, t…", "LoRA"]);
  assert.equal(narrow.xaxis.nticks, 4);
  assert.equal(fitted(layout, 700), layout);
  assert.equal(fitted(layout, 0), layout);
});

test("notes beside parallel axes end before the next axis of a narrow figure", () => {
  const note = { bgcolor: "white", text: "HydraLoRA" };
  const layout = { xaxis: { tickvals: [0, 1, 2, 3, 4] }, annotations: [note] };
  assert.equal(fitted(layout, 320).annotations[0].text, "Hydra…");
  assert.equal(fitted(layout, 900), layout);
});
