/**
 * The log of a job: its last piece, earlier ones on request, and the lines with some words. Value: `{"job": 12, "size":
 * BYTES}`; a larger size is news.
 */

import { button, field, make, option, startOnce } from "./dom.js";
import { readReply } from "./reply.js";

const PAUSE = 300; // ms after the last key before lines are looked for
const LOST = "The studio cannot be reached.";
const NEAR = 40; // px from the end within which somebody reads along

/** What stands above the text: how much of the log there is before it. */
export function earlierInWords(begin) {
  if (begin === 0) return "";
  const size = begin < 1024 ** 2 ? `${Math.ceil(begin / 1024)} KB` : `${(begin / 1024 ** 2).toFixed(1)} MB`;
  return `${size} before this`;
}

/** Lines that were found, each with its number. */
export function linesInWords(lines) {
  const room = String(lines.at(-1)?.number ?? "").length;
  return lines.map(({ number, text }) => `${String(number).padStart(room)}  ${text}`).join("\n");
}

class Log {
  #begin = 0;
  #attempt = null; // the newest where null
  #round = 0; // a reply of an earlier question is dropped
  #timer = null;

  constructor(root, job) {
    this.job = job;
    this.words = make("input", { type: "search", maxLength: 200, oninput: () => this.#soon() });
    this.attempts = make("select", { onchange: () => this.#choose() });
    this.attempt = field("Attempt", this.attempts);
    this.attempt.hidden = true;
    this.earlier = button("Show earlier", () => this.#more(), { hidden: true });
    this.state = make("span", { role: "status", class: "hy-quiet" });
    this.text = make("pre", { class: "hy-log", tabIndex: 0, role: "region", "aria-label": "Log" });
    const tools = make("div", { class: "hy-log-tools" }, field("Lines with the words", this.words), this.attempt);
    root.replaceChildren(tools, make("p", { class: "hy-log-state" }, this.earlier, this.state), this.text);
  }

  /** Another job, or more of the same. */
  follow(job) {
    if (job !== this.job) {
      this.job = job;
      this.#attempt = null;
      this.words.value = "";
    }
    return this.#attempt === null && !this.words.value.trim() && this.#isAtEnd() ? this.look() : undefined;
  }

  /** The last piece, or the lines with the words that stand in the field. */
  async look() {
    const words = this.words.value.trim();
    const found = await this.#ask(words ? "log/lines" : "log", words ? { find: words } : {});
    if (!found) return;
    this.earlier.hidden = true;
    if (words) this.#showLines(found);
    else this.#showPage(found);
  }

  async #ask(what, more) {
    const mine = ++this.#round;
    const query = new URLSearchParams({ ...more, ...(this.#attempt === null ? {} : { attempt: this.#attempt }) });
    try {
      const found = await readReply(await fetch(`/ui/jobs/${this.job}/${what}?${query}`, { cache: "no-store" }));
      return mine === this.#round ? found : null;
    } catch (error) {
      if (mine === this.#round) this.state.textContent = error.refused ? error.message : LOST;
      return null;
    }
  }

  #showLines({ lines, most }) {
    this.text.textContent = lines.length ? linesInWords(lines) : "No line has these words.";
    this.state.textContent = lines.length === 1 ? "1 line" : `${lines.length} lines`;
    if (lines.length === most) this.state.textContent = `The last ${most} lines with these words`;
  }

  #showPage({ text, begin, attempt, attempts }) {
    this.text.textContent = text || "Nothing written yet.";
    this.text.scrollTop = this.text.scrollHeight;
    this.#setBegin(begin);
    this.attempt.hidden = attempts.length < 2;
    const last = attempts.at(-1);
    this.attempts.replaceChildren(...attempts.map((number) => option(String(number), `${number} of ${last}`)));
    this.attempts.value = String(attempt);
  }

  #setBegin(begin) {
    this.#begin = begin;
    this.earlier.hidden = begin === 0;
    this.state.textContent = earlierInWords(begin);
  }

  async #more() {
    const found = await this.#ask("log", { before: this.#begin });
    if (!found) return;
    const below = this.text.scrollHeight - this.text.scrollTop;
    this.text.prepend(found.text);
    this.text.scrollTop = this.text.scrollHeight - below; // what was read stays where it is
    this.#setBegin(found.begin);
    if (this.earlier.hidden) this.text.focus();
  }

  #choose() {
    const { value, lastElementChild } = this.attempts;
    this.#attempt = value === lastElementChild.value ? null : Number(value); // the newest is followed
    this.look();
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.look(), PAUSE);
  }

  #isAtEnd() {
    return this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < NEAR;
  }
}

/** The widget. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-log-root"), (root) => {
    let log = null;
    const follow = () => {
      const job = props.value?.job;
      if (!job) {
        log = null;
        root.textContent = "Nothing written yet.";
      } else if (log) log.follow(job);
      else {
        log = new Log(root, job);
        log.look();
      }
    };
    watch("value", follow);
    follow();
  });
}
