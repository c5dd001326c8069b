/** The chat ends where the window ends, so that the message box is always in sight: the stylesheet needs its top. */

/**
 * Tells the stylesheet where the chat begins, again whenever something above it grows.
 *
 * @param {HTMLElement} node The chat.
 * @param {HTMLElement} root Where it stands in the page.
 */
export function keepInSight(node, root) {
  const fit = () => {
    const top = Math.round(node.getBoundingClientRect().top + scrollY);
    node.style.setProperty("--hy-top", `${top}px`);
  };
  const above = new ResizeObserver(() => requestAnimationFrame(fit));
  for (const around of [document.body, root, root.closest(".gradio-container")]) if (around) above.observe(around);
  addEventListener("resize", fit);
}
