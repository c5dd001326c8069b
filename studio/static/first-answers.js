/** Recorded answers on the first page, as the chat shows them, in place of those that stand there from the start. */

import { Answer } from "./chat/answer.js";
import { WeightsPanel } from "./chat/weights-panel.js";
import { make, startOnce } from "./dom.js";

const ABOUT = "Three unseen questions that the sample model got right. Point at a word.";

/** The widget. */
export function start(element, props) {
  startOnce(element.querySelector(".hy-answers"), (root) => {
    const { experts, answers } = props.value;
    const names = [...Array(experts).keys()].map((place) => `E${place + 1}`);
    const state = { layer: "all", layers: [], names, runs: [] };
    const weights = new WeightsPanel(state);
    const about = make("p", { class: "hy-quiet", textContent: ABOUT });
    root.replaceChildren(about);
    for (const { question, tokens } of answers) {
      const asked = make("div", { class: "body", textContent: question });
      const answer = new Answer(state, weights, () => undefined);
      const message = { state: "done", settings: {}, tokens: tokens.map(([text, shares]) => [text, [shares]]) };
      answer.update(message, message);
      answer.who.remove();
      answer.foot.remove();
      root.append(make("div", { class: "hy-msg user" }, asked), answer.node);
    }
    root.append(weights.node);
    const [text, shares] = answers.at(-1).tokens[0];
    weights.showToken(text, [shares]);
  });
}
