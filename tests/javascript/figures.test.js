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
  assert.equal(shortened("<b>&lt;&gt;&amp;&quot;</b>", 3), "<b>&lt;&gt;…</b>");
});
