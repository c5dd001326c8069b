/** The list of clusters: boxes to tick for merging, a menu for each, and what is wanted told to the studio. */

/** What is sent for a button: what it does, and the numbers of the clusters it is about. */
export function wanted(button, ticked) {
  const own = button.dataset.of;
  return { act: button.dataset.act, of: own === undefined ? ticked.map(Number) : [Number(own)] };
}

/** What says whether enough is ticked: the reason why not, or what would become of it. */
export function mergeWords(names) {
  if (names.length === 0) return "Tick two clusters or more to merge them.";
  if (names.length === 1) return `Tick another one to merge it with ${names[0]}.`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)} become one cluster.`;
}

/** Something by which a control is found again when the list is drawn anew. */
export function nameOf(control) {
  const data = control?.dataset ?? {};
  return data.act || data.menu || data.tick ? JSON.stringify([data.act, data.of, data.menu, data.tick]) : "";
}

const boxes = (root) => [...root.querySelectorAll("input[data-tick]")];

/** Says beside the button for merging what it would do, and lets it be pressed where it can. */
function settle(root) {
  const ticked = boxes(root).filter((box) => box.checked);
  const merge = root.querySelector("button[data-act='merge']");
  if (!merge) return;
  merge.disabled = ticked.length < 2;
  root.querySelector("[data-words]").textContent = mergeWords(ticked.map((box) => box.dataset.name));
}

function closeMenus(root, except) {
  for (const menu of root.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
}

/** Starts the widget; its listeners stand on its root, which stays when what is in it is replaced. */
export function start(element, props, trigger, watch) {
  if (element.dataset.wired) return;
  element.dataset.wired = "1";
  let last = "";
  let ticked = new Set();
  const folded = new Set();
  element.addEventListener("focusin", (event) => {
    last = nameOf(event.target);
    closeMenus(element, event.target.closest("details.menu"));
  });
  element.addEventListener("change", () => {
    ticked = new Set(boxes(element).filter((box) => box.checked).map((box) => box.dataset.tick));
    settle(element);
  });
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (!button || button.disabled) return;
    trigger("select", wanted(button, [...ticked]));
    if (button.dataset.act === "merge") ticked = new Set();
    closeMenus(element);
  });
  element.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  element.addEventListener(
    "toggle",
    (event) => {
      const branch = event.target.dataset?.branch;
      if (branch) folded[event.target.open ? "delete" : "add"](branch);
    },
    { capture: true },
  );
  document.addEventListener("click", (event) => {
    if (!event.target.closest("details.menu")) closeMenus(element);
  });
  const draw = () => {
    for (const box of boxes(element)) box.checked = ticked.has(box.dataset.tick);
    for (const branch of element.querySelectorAll("details[data-branch]")) {
      branch.open = !folded.has(branch.dataset.branch);
    }
    settle(element);
    if (!last || document.activeElement !== document.body) return;
    const controls = [...element.querySelectorAll("button, summary, input")];
    controls.find((control) => nameOf(control) === last)?.focus({ preventScroll: true });
  };
  watch("value", draw);
  draw();
}
