/** The message box, with the buttons that send a message and stop its answers. */

import { button, make } from "../dom.js";

const PLACEHOLDER = "Ask something. Enter sends, Shift+Enter makes a new line.";

export class Composer {
  /** @param {{ask: (text: string) => *, stop: () => *}} acts */
  constructor(acts) {
    const label = { placeholder: PLACEHOLDER, "aria-label": "Message" };
    this.input = make("textarea", { rows: 2, maxLength: 20000, ...label });
    this.send = button("Send", () => acts.ask(this.input.value), { class: "hy-btn main" });
    this.stop = button("Stop", () => acts.stop(), { hidden: true });
    this.node = make("div", { class: "hy-compose" }, this.input, this.send, this.stop);
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.send.disabled) this.send.click();
    });
  }

  /** While an answer is written it can be stopped, and nothing else asked. */
  draw(isWriting) {
    this.stop.hidden = !isWriting;
    this.send.disabled = isWriting;
  }

  clear() {
    this.input.value = "";
  }

  /** Puts a text into the box, to be written on; without one the box stays as it is. */
  write(text = this.input.value) {
    this.input.value = text;
    this.input.focus();
  }
}
