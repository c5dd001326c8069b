/** The tray of jobs in the header of every page: what runs, what waits and in which place, what failed and why. */

import { button, make } from "./dom.js";
import { createPoll } from "./poll.js";
import { readReply } from "./reply.js";
import { askStudio } from "./live-changes.js";
import { Notices } from "./tray/notices.js";
import { jobRow, timeLeft } from "./tray/rows.js";

const EMPTY = "Nothing is running. Trainings, imports and measurements appear here, and go on when the page is closed.";
const UNSEEN_EVERY = 10_000; // ms between two looks of a hidden tab that shall notify
const CLEARED = "hydra-failed-until"; // in this browser: failures up to this job are cleared

/** What the closed tray says: `{count, about, failed, share}`. */
export function summary({ running, waiting, failed }) {
  const working = running.filter((job) => job.ends);
  const pieces = [];
  if (working.length) pieces.push(`${Math.round(100 * working[0].progress)} %`);
  const left = working.length === 1 && !waiting.length ? timeLeft(working[0].left) : "";
  if (left) pieces.push(left);
  const queue = waiting.length ? `${waiting.length} waiting` : "";
  if (queue && working.length) pieces.push(queue);
  return {
    count: working.length ? `${working.length} running` : queue || (failed.length ? "" : "No jobs"), // seen on a phone
    about: pieces.join(", "),
    failed: failed.length ? `${failed.length} failed` : "",
    share: working.length ? working[0].progress : null,
  };
}

class Tray {
  jobs = { running: [], waiting: [], failed: [] };

  constructor(root) {
    this.root = root;
    this.notices = new Notices();
    this.count = make("b");
    this.about = make("span");
    this.failed = make("b", { class: "bad" });
    this.bar = make("i", { class: "bar", "aria-hidden": "true", hidden: true }, make("i"));
    this.button = make("button", { type: "button", class: "hy-btn", onclick: () => this.toggle() });
    this.count.textContent = "Jobs";
    const sign = make("span", { class: "sign", textContent: "▾" });
    this.button.append(this.count, this.about, this.failed, this.bar, sign);
    this.panel = make("section", { class: "panel", hidden: true, "aria-label": "Jobs", tabIndex: -1 });
    this.alert = make("p", { role: "alert", class: "bad" });
    root.append(this.button, this.panel);
    this.button.setAttribute("aria-expanded", "false");
    this.button.setAttribute("aria-haspopup", "true");
    this.#listen();
  }

  #listen() {
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.panel.hidden) return;
      event.stopPropagation();
      this.close();
      this.button.focus();
    });
    document.addEventListener("pointerdown", (event) => {
      if (!this.panel.hidden && !this.root.contains(event.target)) this.close();
    });
  }

  toggle() {
    if (!this.panel.hidden) {
      this.close();
      return;
    }
    this.panel.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    this.draw();
    this.panel.focus();
  }

  close() {
    this.panel.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
  }

  async look() {
    const { told } = this.notices;
    const found = await readReply(await fetch(`/ui/jobs${told && `?told=${told}`}`, { cache: "no-store" }));
    this.notices.tell(found);
    const until = Number(localStorage.getItem(CLEARED) ?? 0);
    this.jobs = { ...found, failed: found.failed.filter((job) => job.id > until) };
    this.draw();
  }

  draw() {
    const { count, about, failed, share } = summary(this.jobs);
    this.count.textContent = count;
    this.about.textContent = about;
    this.failed.textContent = failed;
    this.bar.hidden = share === null;
    this.bar.firstChild.style.transform = `scaleX(${share ?? 0})`;
    if (!this.panel.hidden) this.#fill();
  }

  /** The keyboard stays at the button of the same job where the list is drawn anew. */
  #fill() {
    const { running, waiting, failed } = this.jobs;
    const at = document.activeElement?.dataset?.job;
    const rows = (title, jobs, more) => (jobs.length ? [this.#title(title, more), this.#list(jobs)] : []);
    const close = button("Close", () => this.#closeByHand(), { class: "hy-tool" });
    const clear = button("Clear", () => this.clear(), { class: "hy-tool" });
    this.panel.replaceChildren(
      make("header", {}, make("h2", { textContent: "Jobs" }), close),
      this.alert,
      ...rows("Running", running),
      ...rows("Next", waiting),
      ...rows("Failed", failed, clear),
    );
    if (!running.length && !waiting.length && !failed.length) {
      this.panel.append(make("p", { class: "hy-quiet", textContent: EMPTY }));
    }
    this.panel.append(this.notices.switch(() => this.draw()));
    if (at) this.panel.querySelector(`[data-job="${CSS.escape(at)}"]`)?.focus();
  }

  #closeByHand() {
    this.close();
    this.button.focus();
  }

  #title(words, more) {
    return make("div", { class: "part" }, make("h3", { textContent: words }), ...(more ? [more] : []));
  }

  #list(jobs) {
    return make("ul", {}, ...jobs.map((job) => jobRow(job, (one, what) => this.act(one, what))));
  }

  async act(job, what) {
    this.alert.textContent = "";
    try {
      await readReply(await fetch(`/ui/jobs/${job.id}/${what}`, { method: "POST" }));
      await this.look();
    } catch (error) {
      this.alert.textContent = error.message;
    }
  }

  clear() {
    const newest = Math.max(0, ...this.jobs.failed.map((job) => job.id));
    localStorage.setItem(CLEARED, String(newest));
    this.jobs.failed = [];
    this.draw();
    this.panel.focus();
  }
}

/** Begins in the header as soon as Gradio has drawn it, and follows the studio's jobs. */
export function startTray() {
  const find = () => document.querySelector("#tray:not([data-wired])");
  const begin = (root) => {
    root.dataset.wired = "1";
    const tray = new Tray(root);
    const look = () => tray.look().catch(() => undefined); // the poll tells what is wrong with the studio
    const poll = createPoll({
      ask: (stamp) => askStudio("jobs", stamp),
      onChange: look,
      onReach: (error) => error ?? look(),
      isHidden: () => document.hidden && !tray.notices.areWanted,
      clock: { set: (act, ms) => setTimeout(act, ms), clear: (timer) => clearTimeout(timer) },
    });
    document.addEventListener("visibilitychange", () => {
      poll.pace(document.hidden ? UNSEEN_EVERY : undefined);
      poll.turn();
    });
    poll.start().then(look);
  };
  const seen = new MutationObserver(() => {
    const root = find();
    if (!root) return;
    seen.disconnect();
    begin(root);
  });
  if (find()) begin(find());
  else seen.observe(document, { childList: true, subtree: true });
}
