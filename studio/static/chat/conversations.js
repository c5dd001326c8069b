/** The list of conversations, and what can be done with the open one. */

import { button, make } from "../dom.js";
import { rove } from "../roving.js";
import { remove, send } from "./requests.js";

export class Conversations {
  /**
   * @param {object} state Of the chat.
   * @param {{open: Function, changed: Function, gone: Function, guard: Function}} acts
   */
  constructor(state, acts) {
    Object.assign(this, { state, acts });
    this.list = make("ul", { class: "list" });
    this.about = make("div", { class: "about" });
    this.roving = rove(this.list, "button");
  }

  draw() {
    const { conversations, current } = this.state;
    this.list.replaceChildren();
    for (const { id, title } of conversations) {
      const open = button(title, this.acts.guard(() => this.acts.open(id)), { class: "" });
      if (id === current) open.setAttribute("aria-current", "true");
      this.list.append(make("li", {}, open));
      this.roving.add(open);
    }
    this.list.hidden = conversations.length === 0;
    const chosen = conversations.find((conversation) => conversation.id === current);
    this.about.replaceChildren(...(chosen ? this.#acts(chosen) : []));
  }

  #acts({ id, title }) {
    const path = `/conversations/${id}`;
    const link = (words, ending) => {
      return make("a", { class: "hy-btn", href: `/ui/chat${path}/export.${ending}`, textContent: words });
    };
    const rename = async () => {
      const next = prompt("New name of the conversation", title);
      if (!next) return;
      await send(path, { title: next });
      await this.acts.changed();
    };
    const drop = async () => {
      if (!confirm(`Delete “${title}” with all its messages?`)) return;
      await remove(path);
      await this.acts.gone();
    };
    return [
      button("Rename", this.acts.guard(rename)),
      link("Markdown", "md"),
      link("JSON with gates", "json"),
      button("Delete", this.acts.guard(drop), { class: "hy-btn danger" }),
    ];
  }
}
