/** Where the parts of the chat stand: conversations, thread, panels. */

import { make } from "../dom.js";

const title = (words) => make("h2", { textContent: words });
const box = (words, node) => make("section", { class: "box" }, title(words), node);

/** The whole chat from the nodes of its parts. */
export function layOut({ create, conversations, choices, alert, thread, examples, compose, ...panels }) {
  const left = make("div", { class: "side" }, title("Conversations"), create, conversations.list);
  const middle = make("div", { class: "middle" }, choices.node, alert, thread.node, examples, compose);
  const right = make(
    "div",
    { class: "side panels" },
    box("Routing weights", panels.weights.node),
    box("Change the experts", panels.experts.node),
    box("Settings", panels.settings.node),
    conversations.about,
    panels.server,
  );
  return make("div", { class: "hy-chat" }, left, middle, right);
}
