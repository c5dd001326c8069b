/**
 * HTML of the studio whose controls write into the page's address, and tell the page that they did: what is looked at
 * can be sent to somebody, and is the same after a reload.
 *
 * `[data-param]` is a select, a search, a box or a button that sets one value of the address (`data-value`, else its
 * own); `button[data-act]` asks for something to be done `data-of` something, with the text of the input beside it.
 */

const TYPING = 300; // ms after the last letter
const COPIED = 2000; // ms

/** The search of an address with one value set, taken away where it is empty; another list begins at its first page. */
export function withValue(search, name, value) {
  const query = new URLSearchParams(search);
  if (value === "") query.delete(name);
  else query.set(name, value);
  if (name !== "page") query.delete("page");
  const text = query.toString().replaceAll("%2C", ",");
  return text ? `?${text}` : "";
}

/** What a control sets its value of the address to. */
export function valueOf(control) {
  if (control.type === "checkbox") {
    if (control.dataset.value !== undefined) return control.dataset.value;
    return control.checked ? "1" : "";
  }
  return control.dataset.value ?? control.value;
}

/** Something by which a control is found again when it is drawn anew. */
export function nameOf(control) {
  const { param, value, act, of, tick, key } = control?.dataset ?? {};
  const is = param ?? act ?? tick;
  if (is === undefined) return "";
  return JSON.stringify([param, control.tagName === "SELECT" ? "" : key ?? value, act, key ? "" : of, tick]);
}

/** What is sent for a button. */
export function wanted(button) {
  const input = button.closest("[data-form]")?.querySelector("input, select");
  return { act: button.dataset.act, of: button.dataset.of ?? "", value: input?.value ?? "" };
}

const isTyped = (control) => control.type === "search" || control.type === "text";

/** Shows in selects and searches what the address says, not in one that is typed into; boxes as they are drawn. */
function fill(root) {
  for (const box of root.querySelectorAll("input[type='checkbox'][data-param]")) {
    box.checked = box.hasAttribute("checked"); // a box that was ticked may have become that of something else
  }
  const query = new URLSearchParams(window.location.search);
  for (const control of root.querySelectorAll("select[data-param], input[type='search'][data-param]")) {
    if (control === document.activeElement && isTyped(control)) continue;
    const value = query.get(control.dataset.param) ?? control.dataset.usual ?? "";
    if (control.tagName !== "SELECT" || [...control.options].some((option) => option.value === value)) {
      control.value = value;
    }
  }
}

async function copy(button) {
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy || window.location.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy it from the address bar";
  }
  setTimeout(() => {
    button.textContent = words;
  }, COPIED);
}

/**
 * Starts the widget; its listeners stand on its root, which stays when what is in it is replaced.
 *
 * @param {() => void} onDraw Called when it was drawn, for a widget that is more than this.
 */
export function startAddressed(element, trigger, watch, onDraw = () => {}) {
  let last = "";
  let typing = 0;
  const set = (control) => {
    const search = withValue(window.location.search, control.dataset.param, valueOf(control));
    window.history.replaceState({}, "", window.location.pathname + search);
    trigger("input", {});
  };
  document.addEventListener("focusin", (event) => {
    const isHere = element.contains(event.target); // another widget's controls are its own to find again
    last = isHere ? nameOf(event.target.closest("[data-param], [data-act], [data-tick]")) : "";
  });
  element.addEventListener("click", (event) => {
    const control = event.target.closest("button[data-param], button[data-act], button[data-copy]");
    if (!control || control.disabled) return;
    if (control.dataset.copy !== undefined) copy(control);
    else if (control.dataset.param) set(control);
    else trigger("select", wanted(control));
  });
  element.addEventListener("change", (event) => {
    if (event.target.matches("select[data-param], input[type='checkbox'][data-param]")) set(event.target);
  });
  element.addEventListener("input", (event) => {
    if (!event.target.matches("input[type='search'][data-param]")) return;
    clearTimeout(typing);
    typing = setTimeout(() => set(event.target), TYPING);
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("[data-form] input")) return;
    event.preventDefault();
    event.target.closest("[data-form]").querySelector("button[data-act]")?.click();
  });
  const draw = () => {
    fill(element);
    onDraw();
    // What was focused is gone with the HTML that held it, or has become another control; nobody has gone elsewhere.
    const at = document.activeElement;
    const isLost = at === document.body || (element.contains(at) && nameOf(at) !== last);
    if (!last || !isLost) return;
    const controls = [...element.querySelectorAll("[data-param], [data-act], [data-tick]")];
    controls.find((control) => nameOf(control) === last)?.focus({ preventScroll: true });
  };
  watch("value", draw);
  draw();
}

/** The widget by itself. */
export function start(element, props, trigger, watch) {
  if (element.dataset.wired) return;
  element.dataset.wired = "1";
  startAddressed(element, trigger, watch);
}
