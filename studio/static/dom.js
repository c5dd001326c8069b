/** Nodes of the page. Text of corpora and models only ever enters through `textContent`. */

const isListener = (key) => key.startsWith("on");

/**
 * A new element.
 *
 * @param {string} tag
 * @param {object} props `class`, listeners such as `onclick`, properties of the node, and attributes.
 * @param {...(Node|string)} children
 */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key === "class") node.className = value;
    else if (isListener(key)) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** A button with its words and what it does. */
export function button(words, act, props = {}) {
  return make("button", { type: "button", class: "hy-btn", textContent: words, onclick: act, ...props });
}

/** An input below its label. */
export function field(label, input) {
  return make("label", { class: "hy-field" }, make("span", { textContent: label }), input);
}

/** One choice of a select. */
export function option(value, words) {
  return make("option", { value, textContent: words });
}

/** Lets the visitor save a text as a file. */
export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 2000);
}

/** Starts a widget once in its place, also where Gradio runs its script again. */
export function startOnce(root, start) {
  if (!root || root.dataset.wired) return;
  root.dataset.wired = "1";
  start(root);
}
