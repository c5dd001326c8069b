/** Where the parts of the chat stand: conversations, thread, panels. */

import { make } from "../dom.js";

const title = (words) => make("h2", { textContent: words });
const box = (words, node) => make("section", { class: "box" }, title(words), node);

const fold = (words, ...nodes) => make("details", {}, make("summary", { textContent: words }), ...nodes);

/** The whole chat from the nodes of its parts. */
export function layOut({ create, conversations, choices, alert, tries, thread, examples, composer, ...panels }) {
  const talks = fold("Conversations", create, conversations.list, conversations.about);
  const middle = make("div", { class: "middle" }, alert, tries.node, thread.node, examples.node, composer.node);
  const right = make(
    "div",
    { class: "side panels" },
    box("Routing weights", panels.weights.node),
    box("Change the experts", panels.experts.node),
    box("Who answers", choices.node),
    make("section", { class: "box" }, panels.settings.node, talks),
    panels.server,
  );
  return make("div", { class: "hy-chat" }, middle, right);
}
