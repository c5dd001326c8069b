/** HTML of the studio with buttons that tell what is wanted; see `studio.widgets.Acts`. */

/** What is sent for a button: what it does, and the number it is about. */
export function wanted({ dataset }) {
  return { act: dataset.act, of: dataset.of === undefined ? null : Number(dataset.of) };
}

/** The widget; its listener stands on its root, which stays when what is in it is replaced. */
export function start(element, props, trigger) {
  if (element.dataset.wired) return;
  element.dataset.wired = "1";
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button) trigger("select", wanted(button));
  });
}
