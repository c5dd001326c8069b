/** Selects in HTML that the studio has drawn: each tells what is chosen, and keeps the keyboard when drawn anew. */

/** What is sent for a select: its name, what it belongs to, and the choice. */
export function chosen(select) {
  return { name: select.name, of: select.closest("[data-of]")?.dataset.of ?? "", value: select.value };
}

/** The select of this name, which may hold any characters. */
export function named(root, name) {
  return [...root.querySelectorAll("select")].find((select) => select.name === name);
}

/** Starts the widget; the listener stands on its root, which stays when what is in it is replaced. */
export function start(element, props, trigger, watch) {
  if (element.dataset.wired) return;
  element.dataset.wired = "1";
  let last = "";
  element.addEventListener("focusin", (event) => {
    last = event.target.matches("select") ? event.target.name : "";
  });
  element.addEventListener("change", (event) => {
    if (event.target.matches("select")) trigger("select", chosen(event.target));
  });
  watch("value", () => {
    // What was focused is gone with the HTML that held it; nobody has gone elsewhere meanwhile.
    if (last && document.activeElement === document.body) named(element, last)?.focus({ preventScroll: true });
  });
}
