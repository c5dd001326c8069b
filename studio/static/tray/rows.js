/** Rows of the tray: a job with its purpose, its place or its progress, its time, and what can be done with it. */

import { button, make } from "../dom.js";

const SIGNS = { running: "▸", stopping: "▪", queued: "…", failed: "×", lost: "×" };

/** Seconds in words: `40 s`, `3 min`, `1 h 5 min`. */
export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Time that is left, or nothing where it is not known. */
export function timeLeft(seconds) {
  return seconds === null || seconds === undefined ? "" : `about ${span(seconds)} left`;
}

/** When a job that waits begins, in words. */
export function startInWords({ place, starts, held }) {
  if (held) return "held";
  if (starts === null || starts === undefined) return place === 1 ? "begins next" : `place ${place}`;
  return starts < 5 ? "begins next" : `begins in about ${span(starts)}`;
}

function timeInWords(job) {
  if (job.status === "queued") return startInWords(job);
  if (job.error) return new Date(1000 * job.at).toTimeString().slice(0, 5);
  return job.status === "stopping" ? "stopping" : timeLeft(job.left);
}

/** What can be done with a job, as `[word, what the studio is asked, label]`. */
export function actsOf(job) {
  if (job.error) return [];
  if (job.status !== "queued") return [["Stop", "stop", `Stop ${job.title}`]];
  const held = job.held
    ? ["Release", "release", `Release ${job.title}`]
    : ["Hold", "hold", `Hold ${job.title} until it is released`];
  return [
    ["↑", "place/up", `Let ${job.title} begin earlier`],
    ["↓", "place/down", `Let ${job.title} begin later`],
    held,
    ["Cancel", "stop", `Cancel ${job.title}`],
  ];
}

/** One job as a row; `act` is called with it and with what is to be done. */
export function jobRow(job, act) {
  const waits = job.status === "queued";
  const sign = make("i", { class: `sign ${job.status}`, textContent: waits ? job.place : (SIGNS[job.status] ?? "·") });
  const title = make(job.href ? "a" : "b", { textContent: job.title, ...(job.href ? { href: job.href } : {}) });
  const about = [job.about, waits || job.error ? "" : job.words].filter(Boolean).join(", ");
  const parts = [sign, title, make("span", { class: "time", textContent: timeInWords(job) })];
  parts.push(make("span", { class: "about", textContent: about }));
  const acts = actsOf(job).map(([word, what, label]) => {
    const made = button(word, () => act(job, what), { "aria-label": label, disabled: job.status === "stopping" });
    made.dataset.job = `${job.id} ${what}`;
    return made;
  });
  if (acts.length) parts.push(make("span", { class: "acts" }, ...acts));
  if (!waits && !job.error && job.ends) parts.push(barOf(job));
  if (job.error) parts.push(make("p", { class: "bad", textContent: job.error }));
  return make("li", {}, ...parts);
}

function barOf(job) {
  const fill = make("i");
  fill.style.transform = `scaleX(${job.progress})`;
  const percent = Math.round(100 * job.progress);
  const label = { role: "progressbar", "aria-label": job.title, "aria-valuenow": percent };
  return make("div", { class: "bar", ...label, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
}
