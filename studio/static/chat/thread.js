/** The messages of a conversation. A node stays as long as its message does; new ones are appended. */

import { button, make } from "../dom.js";
import { Answer } from "./answer.js";

const NEAR = 60; // px from the end within which a reader follows what is written

/** Questions with their answers, in order. */
export function groupsOf(messages) {
  const groups = [];
  for (const message of messages) {
    if (message.role === "user") groups.push({ question: message, answers: [] });
    else groups.find((group) => group.question.id === message.reply_to)?.answers.push(message);
  }
  return groups;
}

export class Thread {
  #groups = new Map(); // id of a question: {nodes, pair, answers: Map of id to Answer}

  /**
   * @param {object} state Of the chat.
   * @param {object} weights The panel that shows routing weights.
   * @param {{again: Function, edit: Function}} acts
   */
  constructor(state, weights, acts) {
    Object.assign(this, { state, weights, acts });
    const label = { role: "log", "aria-live": "polite", "aria-label": "conversation" };
    this.node = make("div", { class: "hy-thread", tabIndex: 0, ...label });
    this.empty = make("div", { class: "hy-empty" });
  }

  /** Brings the nodes up to date with the messages. */
  update() {
    const isFollowing = this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < NEAR;
    const groups = groupsOf(this.state.messages);
    const ids = new Set(groups.map((group) => group.question.id));
    let isNew = false;
    for (const [id, { nodes }] of this.#groups) if (!ids.has(id)) this.#drop(id, nodes);
    for (const { question, answers } of groups) {
      if (!this.#groups.has(question.id)) {
        this.#add(question);
        isNew = true;
      }
      this.#updateAnswers(this.#groups.get(question.id), answers);
    }
    this.#sayEmpty(groups.length === 0);
    if (isFollowing || isNew) this.node.scrollTop = this.node.scrollHeight;
  }

  /** Only one answer has grown. */
  grow(message) {
    const isFollowing = this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < NEAR;
    const group = groupsOf(this.state.messages).find((one) => one.answers.includes(message));
    if (!group) return;
    this.#groups.get(group.question.id)?.answers.get(message.id)?.update(message, group.answers[0]);
    if (isFollowing) this.node.scrollTop = this.node.scrollHeight;
  }

  /** Another layer is shown. */
  recolour() {
    for (const { answers } of this.#groups.values()) {
      for (const [id, answer] of answers) {
        answer.recolour(this.state.messages.find((message) => message.id === id)?.tokens ?? []);
      }
    }
  }

  #add(question) {
    const title = "Take it back into the box; what follows is removed";
    const edit = button("Edit", () => this.acts.edit(question), { title });
    const asked = make(
      "div",
      { class: "hy-msg user" },
      make("div", { class: "who", textContent: "You" }),
      make("div", { class: "body", textContent: question.text }),
      make("div", { class: "acts" }, edit),
    );
    const pair = make("div", { class: "hy-pair" });
    this.#groups.set(question.id, { nodes: [asked, pair], pair, answers: new Map() });
    this.node.append(asked, pair);
  }

  #updateAnswers({ pair, answers }, messages) {
    for (const message of messages) {
      if (!answers.has(message.id)) {
        const answer = new Answer(this.state, this.weights, this.acts.again);
        answers.set(message.id, answer);
        pair.append(answer.node);
      }
      answers.get(message.id).update(message, messages[0]);
    }
  }

  #drop(id, nodes) {
    for (const node of nodes) node.remove();
    this.#groups.delete(id);
  }

  #sayEmpty(isEmpty) {
    if (!isEmpty) {
      this.empty.remove();
      return;
    }
    const { runs, noRun } = this.state;
    let words = "The base model can answer already. Train a run to see its experts speak.";
    if (noRun) words = "This run cannot answer any more. Open another one.";
    else if (runs.length) words = "Pick an example below, or write your own question.";
    const title = runs.length ? "Nothing said yet" : "No trained adapter yet";
    this.empty.replaceChildren(make("b", { textContent: title }), words);
    this.node.append(this.empty);
  }
}
