/** The list of runs: what is ticked stays so over pages and reloads of this tab, and says what it has alike. */

import { startAddressed } from "./addressed.js";

const KEPT = "hydra-studio-ticked-runs";
const MOST = 1000; // runs compared at once; `studio/comparison/address.py` refuses more

/** Ids as a list for an address, neighbours in a row as a range; as `written` of `studio/comparison/address.py`. */
export function writtenIds(ids) {
  const parts = [];
  for (const id of ids) {
    const part = parts.at(-1);
    if (part && part[1] + 1 === id) part[1] = id;
    else parts.push([id, id]);
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** What ticked runs have alike, in words: `same corpus and base; 2 methods, 3 seeds`. */
export function aboutRuns(runs) {
  if (runs.length < 2) return "";
  const count = (name) => new Set(runs.map((run) => run[name])).size;
  const same = ["corpus", "base"].filter((name) => count(name) === 1);
  const words = same.length ? [`same ${same.join(" and ")}`] : [];
  const rest = [["corpora", "corpus"], ["base", "base"], ["method", "method"], ["seed", "seed"]]
    .filter(([, name]) => !same.includes(name))
    .map(([word, name]) => (name === "corpus" ? `${count(name)} ${word}` : counted(count(name), word)));
  return [...words, rest.join(", ")].filter(Boolean).join("; ");
}

function kept() {
  try {
    return new Map(JSON.parse(window.sessionStorage.getItem(KEPT) ?? "[]"));
  } catch {
    return new Map(); // storage is off, or somebody else's
  }
}

function keep(ticked) {
  try {
    window.sessionStorage.setItem(KEPT, JSON.stringify([...ticked]));
  } catch {
    // storage is off: what is ticked lasts as long as the page
  }
}

const boxes = (root) => [...root.querySelectorAll("input[data-tick]")];

function about(box) {
  const { corpus, base, method, seed } = box.dataset;
  return { corpus, base, method, seed };
}

/** The bar of what is ticked: how many, what they have alike, and what can be done with them. */
function fillBar(root, ticked) {
  const bar = root.querySelector("[data-bar]");
  if (!bar) return;
  const ids = [...ticked.keys()].map(Number).sort((a, b) => a - b);
  const list = writtenIds(ids);
  bar.hidden = ids.length === 0;
  bar.querySelector("[data-count]").textContent = `${counted(ids.length, "run")} selected`;
  bar.querySelector("[data-about]").textContent = aboutRuns([...ticked.values()]);
  bar.querySelector("[data-command]").textContent = `python -m studio runs compare ${list}`;
  for (const button of bar.querySelectorAll("button[data-act]")) button.dataset.of = list;
  const go = bar.querySelector("a[data-compare]");
  go.href = `/compare?runs=${list}`;
  go.textContent = ids.length > MOST ? `At most ${MOST} runs are compared` : `Compare ${counted(ids.length, "run")} →`;
}

/** Starts the widget. */
export function start(element, props, trigger, watch) {
  if (element.dataset.wired) return;
  element.dataset.wired = "1";
  let ticked = kept();
  let former = null; // the box that was ticked before, from which a range goes
  const settle = () => {
    const all = boxes(element);
    for (const box of all) {
      box.checked = ticked.has(box.dataset.tick);
      box.closest("tr").toggleAttribute("data-on", box.checked);
    }
    const whole = element.querySelector("input[data-all]");
    if (whole) {
      const count = all.filter((box) => box.checked).length;
      whole.checked = all.length > 0 && count === all.length;
      whole.indeterminate = count > 0 && count < all.length;
    }
    fillBar(element, ticked);
  };
  const tick = (box, isOn) => {
    if (isOn) ticked.set(box.dataset.tick, about(box));
    else ticked.delete(box.dataset.tick);
  };
  element.addEventListener("click", (event) => {
    if (event.target.closest("[data-clear]")) {
      ticked = new Map();
      keep(ticked);
      settle();
      boxes(element)[0]?.focus();
      return;
    }
    const box = event.target.closest("input[data-tick]");
    if (!box) return;
    const all = boxes(element);
    const [from, to] = [all.findIndex((one) => one.dataset.tick === former), all.indexOf(box)];
    if (event.shiftKey && from >= 0) {
      for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) tick(one, box.checked);
    }
    former = box.dataset.tick;
  });
  element.addEventListener("change", (event) => {
    if (event.target.matches("input[data-tick]")) tick(event.target, event.target.checked);
    else if (event.target.matches("input[data-all]")) {
      for (const box of boxes(element)) tick(box, event.target.checked);
    } else return;
    keep(ticked);
    settle();
  });
  startAddressed(element, trigger, watch, settle);
}
