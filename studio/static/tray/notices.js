/**
 * Notices of jobs that have ended: in the page, and by the browser where that is asked for and the page is not seen.
 *
 * What was told last is kept in this browser, so that of several tabs one tells it.
 */

import { button, make } from "../dom.js";

const TOLD = "hydra-told"; // in this browser: the number of the last end that was told
const WANTED = "hydra-notices"; // in this browser: "on" where the browser itself shall tell
const LEAST = 20; // seconds of work from which an end is worth a notice; what failed always is
const OLDEST = 600; // seconds after which it is none any more: the first page tells what finished since
const MOST = 3; // in the page at once
const BLOCKED = "This browser blocks notices of this address. Allow them in its settings, then reload.";
const UNSAFE = "Browsers show notices only of https addresses and of this machine itself.";

/** Whether an end is told here: not what was short, or long ago, or of the page that is being looked at. */
export function isWorthTelling(end, { now, here, isSeen }) {
  const failed = end.status === "failed" || end.status === "lost";
  if (now - end.at > OLDEST || (end.seconds < LEAST && !failed)) return false;
  return !(isSeen && end.href && here.startsWith(end.href) && !/^\d/.test(here.slice(end.href.length)));
}

/** A number as a browser keeps it, or nothing where that is none. */
export function numberIn(kept) {
  return /^\d+$/.test(kept ?? "") ? kept : "";
}

/** What the switch says: `{checked, disabled, words}`; `permission` is the browser's, undefined where it has none. */
export function switchOf(permission, isWanted) {
  if (permission === undefined) return { checked: false, disabled: true, words: UNSAFE };
  if (permission === "denied") return { checked: false, disabled: true, words: BLOCKED };
  return { checked: isWanted && permission === "granted", disabled: false, words: "" };
}

/** A notice of the browser; nothing where it lets no page show one by itself, as on phones. */
function notify(end) {
  try {
    return new Notification("Hydra Studio", { body: end.words, tag: `hydra-job-${end.id}` });
  } catch {
    return null;
  }
}

/** Notices of one page. */
export class Notices {
  constructor() {
    this.root = make("section", { class: "hy-notices", role: "status", "aria-label": "Notices" });
    document.body.append(this.root);
  }

  /** The number that the studio is asked with; empty at first. */
  get told() {
    return numberIn(localStorage.getItem(TOLD));
  }

  /** Whether the studio is asked also while this tab is hidden. */
  get areWanted() {
    return switchOf(this.#permission(), localStorage.getItem(WANTED) === "on").checked;
  }

  #permission() {
    return isSecureContext && "Notification" in window ? Notification.permission : undefined;
  }

  /** Tell what has ended, `{newest, ended}` as the studio gives it. */
  tell({ newest, ended }) {
    const before = Number(this.told);
    localStorage.setItem(TOLD, String(newest));
    if (newest === before) return;
    const seen = { now: Date.now() / 1000, here: location.pathname + location.search, isSeen: !document.hidden };
    for (const end of ended.filter((one) => isWorthTelling(one, seen))) this.#show(end);
  }

  #show(end) {
    const close = button("×", () => line.remove(), { class: "hy-tool", "aria-label": "Close this notice" });
    const words = make("p", { textContent: end.words });
    const link = end.href ? [make("a", { href: end.href, textContent: "Open" })] : [];
    const line = make("div", { class: `hy-notice ${end.status}` }, words, ...link, close);
    this.root.append(line);
    while (this.root.children.length > MOST) this.root.firstChild.remove();
    if (document.hidden && this.areWanted) this.#tellByBrowser(end);
  }

  #tellByBrowser(end) {
    const notice = notify(end);
    if (!notice) {
      localStorage.setItem(WANTED, "off");
      return;
    }
    notice.onclick = () => {
      window.focus();
      if (end.href) location.assign(end.href);
      notice.close();
    };
  }

  /** The switch of the tray's panel; `redraw` is called when it has been turned. */
  switch(redraw) {
    const { checked, disabled, words } = switchOf(this.#permission(), localStorage.getItem(WANTED) === "on");
    const box = make("input", { type: "checkbox", checked, disabled });
    box.dataset.job = "notices"; // the keyboard stays there when the tray is drawn anew
    box.addEventListener("change", () => this.#turn(box.checked).then(redraw));
    const label = make("label", {}, box, "Notify me when a job ends, also while this tab is hidden");
    const why = words ? [make("p", { class: "hy-quiet", textContent: words })] : [];
    return make("div", { class: "foot" }, label, ...why);
  }

  async #turn(on) {
    if (on && Notification.permission === "default") await Notification.requestPermission();
    localStorage.setItem(WANTED, on ? "on" : "off");
  }
}
