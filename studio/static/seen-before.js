/** When this browser was here last, so that the first page can tell what is new. */

import { startOnce } from "./dom.js";

const SEEN = "hydra-seen"; // in this browser: seconds since 1970 at which the studio was left
const SINCE = "hydra-since"; // in this tab: what that was when the tab was opened

/** Seconds since 1970 of the visit before this one; 0 where there was none. */
export function seenBefore(tab, browser) {
  if (tab.getItem(SINCE) === null) tab.setItem(SINCE, browser.getItem(SEEN) ?? "0");
  return Number(tab.getItem(SINCE)) || 0;
}

/** The widget. */
export function start(element, props, trigger) {
  startOnce(element.querySelector(".hy-seen"), () => {
    const since = seenBefore(sessionStorage, localStorage);
    addEventListener("pagehide", () => localStorage.setItem(SEEN, String(Math.floor(Date.now() / 1000))));
    trigger("select", { since });
  });
}
