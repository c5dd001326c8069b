/** The first answer's words as another variant scores them. */

import { make } from "../dom.js";
import { tableNode } from "../table.js";
import { percent } from "./gates.js";

const LEAST = 1e-4; // of a probability, so that its logarithm stays finite
const ALIKE = 0.005; // nats per token
const FULL_TINT = 3; // nats at which a word has its strongest tint
const HOW =
  "Orange: less likely here than in the first answer; blue: more likely. The table holds both probabilities.";

const log = (probability) => Math.log(Math.max(probability, LEAST));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** How much likelier the words are here than where they were written, in nats per token. */
export function gapOf({ here, own }) {
  return mean(here.map(log)) - mean(own.map(log));
}

/** The sentence for a gap. */
export function gapInWords(gap) {
  const side = gap < -ALIKE ? "less likely here" : gap > ALIKE ? "more likely here" : "as likely here";
  return `The first answer's words would have been ${side} (${gap.toFixed(2)} nats per token)`;
}

/** The fold below an answer that shows the scores, or why there are none; null where there is nothing to say. */
export function scoresNode(message, first) {
  const scores = message.details?.weighed;
  if (!scores || scores.of !== first.id) {
    const reason = message.details?.unweighed;
    return reason ? make("p", { class: "hy-quiet", textContent: reason }) : null;
  }
  const text = (place) => first.tokens[place]?.[0] ?? "";
  const rows = scores.here.map((p, place) => [text(place), scores.own[place].toFixed(3), p.toFixed(3)]);
  return make(
    "details",
    { class: "weighed" },
    make("summary", { textContent: gapInWords(gapOf(scores)) }),
    make("p", { class: "words" }, ...scores.here.map((p, place) => scoredWord(text(place), p, scores.own[place]))),
    make("p", { class: "hy-quiet", textContent: HOW }),
    tableNode({ head: ["Token", "First answer", "Here"], rows }, "probabilities"),
  );
}

function scoredWord(text, here, own) {
  const change = log(here) - log(own);
  const strength = Math.min(1, Math.abs(change) / FULL_TINT);
  const title = `${percent(here)} here, ${percent(own)} in the first answer`;
  const node = make("span", { textContent: text, title });
  if (strength >= 0.05) {
    const hue = change < 0 ? "var(--gb)" : "var(--ga)";
    node.style.background = `color-mix(in srgb, ${hue} ${Math.round(30 * strength)}%, transparent)`;
  }
  return node;
}
