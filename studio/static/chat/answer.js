/** One answer in the thread. Its tokens are appended as they come; nothing of it is drawn twice. */

import { expertClass } from "../colours.js";
import { button, make } from "../dom.js";
import { rove } from "../roving.js";
import { differentPlaces } from "./difference.js";
import { leaderOf, sharesInWords, shownRow } from "./gates.js";
import { scoresNode } from "./scores.js";
import { continueStretch, isNamed } from "./stretches.js";
import { answererInWords } from "./variants.js";

const WORDS = "Words of the answer; the arrow keys go from one to the next";
const NO_WORDS = "(an empty answer: the model stopped at once)";

export class Answer {
  #tokens = []; // nodes, in order
  #stretch = null;
  #shown = ""; // what the head and the foot were drawn from

  /**
   * @param {object} state Of the chat.
   * @param {{showToken: Function}} weights Where a word shows its routing weights.
   * @param {(message: object) => void} again Asks once more.
   */
  constructor(state, weights, again) {
    Object.assign(this, { state, weights, again });
    this.who = make("div", { class: "who" });
    this.body = make("div", { class: "body" });
    this.foot = make("div", { class: "foot" });
    this.node = make("div", { class: "hy-msg assistant" }, this.who, this.body, this.foot);
    this.roving = rove(this.body, ".tok[data-expert]");
  }

  /**
   * Brings the node up to date with its message.
   *
   * @param {object} message
   * @param {object} first The first answer to the same question; may be the same one.
   */
  update(message, first) {
    const tokens = message.tokens ?? [];
    if (tokens.length < this.#tokens.length) this.#clear(); // written anew, as after a restart of its server
    if (tokens.length && !this.#tokens.length) this.body.replaceChildren();
    for (const token of tokens.slice(this.#tokens.length)) this.#append(token);
    const firstState = first === message ? "" : first.state;
    const shown = JSON.stringify([message.state, message.waiting, message.error, message.details, firstState]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#finish(message, first, tokens);
  }

  /** Colours every token anew, for another layer. */
  recolour(tokens) {
    this.#stretch = null;
    this.#tokens.forEach((node, place) => this.#colour(node, place, tokens[place]));
  }

  #clear() {
    this.body.replaceChildren();
    this.#tokens = [];
    this.#stretch = null;
    this.#shown = "";
  }

  #append(token) {
    const [text, gates] = token;
    const node = make("span", { class: "tok", textContent: text });
    const show = () => this.weights.showToken(text, gates);
    if (gates?.length) for (const kind of ["mouseenter", "focus", "click"]) node.addEventListener(kind, show);
    this.#tokens.push(node);
    this.body.append(node);
    this.#colour(node, this.#tokens.length - 1, token);
    if (gates?.length) this.roving.add(node);
  }

  #colour(node, place, [text, gates]) {
    const row = shownRow(gates, this.state.layer);
    const expert = row ? leaderOf(row) : null;
    this.#stretch = continueStretch(this.#stretch, place, expert, text);
    delete node.dataset.name;
    if (!row) return;
    const isDifferent = node.classList.contains("diff");
    node.className = `tok ${expertClass(expert)}${isDifferent ? " diff" : ""}`;
    node.dataset.expert = this.state.names[expert];
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", `${text}: ${sharesInWords(row, this.state.names)}`);
    node.title = sharesInWords(row, this.state.names);
    if (isNamed(this.#stretch)) this.#tokens[this.#stretch.start].dataset.name = this.state.names[expert];
  }

  /** The parts that change with the state of the answer, not with its tokens. */
  #finish(message, first, tokens) {
    const isWriting = message.state === "writing";
    // A screen reader waits until an answer is whole, and then reads it once.
    this.node.setAttribute("aria-busy", String(isWriting));
    if (tokens.some((token) => token[1]?.length)) {
      this.body.setAttribute("role", "toolbar");
      this.body.setAttribute("aria-label", WORDS);
    }
    if (!tokens.length) this.body.textContent = isWriting ? (message.waiting ?? "…") : NO_WORDS;
    if (message.state === "failed") this.#fail(message);
    const isOther = first !== message;
    const isComparable = isOther && !isWriting && first.state !== "writing";
    const differing = isComparable ? this.#underline(first, tokens) : null;
    const who = answererInWords(message, this.state.runs, this.state.names);
    this.who.textContent = [who, ...remarks(message, differing)].join(" · ");
    this.foot.replaceChildren(...this.#parts(message, first, isWriting, isOther));
  }

  #fail(message) {
    if (!this.#tokens.length) this.body.replaceChildren();
    this.body.querySelector(".hy-note")?.remove();
    this.body.append(make("div", { class: "hy-note bad", textContent: message.error || "It failed." }));
  }

  /** Marks the words that the first answer has not; gives how many. */
  #underline(first, tokens) {
    const words = (list) => list.map((token) => token[0]);
    const places = differentPlaces(words(first.tokens ?? []), words(tokens));
    this.#tokens.forEach((node, place) => node.classList.toggle("diff", places.has(place)));
    return places.size;
  }

  #parts(message, first, isWriting, isOther) {
    if (isWriting) return [];
    const scores = isOther ? scoresNode(message, first) : null;
    const actions = make("div", { class: "acts" });
    actions.append(button("Copy", () => navigator.clipboard?.writeText(message.text)));
    const title = "Once more, with the experts and settings chosen on the right";
    if (!isOther) actions.append(button("Answer again", () => this.again(message), { title }));
    return scores ? [scores, actions] : [actions];
  }
}

/** What else is to be said of an answer. */
function remarks({ state, details }, differing) {
  const found = [];
  if (details?.dropped) found.push(`${details.dropped} earlier messages did not fit and were left out`);
  if (details?.done === "length") found.push("cut at the longest answer");
  if (state === "stopped") found.push("stopped");
  if (details?.tokens_per_second) found.push(`${details.tokens_per_second} tokens/s`);
  if (differing !== null) {
    found.push(differing ? "underlined: differs from the first answer" : "the same as the first answer");
  }
  return found;
}
