/**
 * The bar of a page's tabs: the one that is open stands in the address as `tab`. Value:
 * `{"tabs": [[name in the address, title], ...], "current": name}`.
 */

import { make, startOnce } from "./dom.js";
import { nextPlace } from "./roving.js";

/** The address with another tab open; what only the former tab needs is left out. */
export function withTab(address, name) {
  const url = new URL(address);
  url.searchParams.set("tab", name);
  for (const other of ["mute", "try"]) url.searchParams.delete(other);
  return url;
}

class Bar {
  #names = "";

  constructor(root, trigger) {
    Object.assign(this, { root, trigger });
    root.setAttribute("aria-label", "What is known of this run");
    root.addEventListener("keydown", (event) => this.move(event));
    addEventListener("popstate", () => this.trigger("select", {}));
  }

  show(value) {
    const { tabs, current } = value ?? { tabs: [], current: "" };
    if (tabs.join() !== this.#names) {
      this.#names = tabs.join();
      this.root.replaceChildren(...tabs.map(([name, title]) => this.#tab(name, title)));
    }
    this.choose(current);
  }

  #tab(name, title) {
    const props = { type: "button", role: "tab", textContent: title, onclick: () => this.open(name) };
    const tab = make("button", props);
    tab.dataset.name = name;
    return tab;
  }

  choose(name) {
    for (const tab of this.root.children) {
      const isOpen = tab.dataset.name === name;
      tab.setAttribute("aria-selected", isOpen);
      tab.tabIndex = isOpen ? 0 : -1;
    }
  }

  open(name) {
    history.pushState({}, "", withTab(location, name));
    this.choose(name);
    this.trigger("select", {});
  }

  move(event) {
    const tabs = [...this.root.children];
    const place = nextPlace(event.key, tabs.indexOf(event.target), tabs.length);
    if (place < 0) return;
    event.preventDefault();
    tabs[place].focus();
    this.open(tabs[place].dataset.name);
  }
}

/** The widget: `select` is told when another tab is open. */
export function start(element, props, trigger, watch) {
  startOnce(element.querySelector(".hy-tabbar"), (root) => {
    const bar = new Bar(root, trigger);
    watch("value", () => bar.show(props.value));
    bar.show(props.value);
  });
}
