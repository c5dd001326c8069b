/** One tab stop for many parts: Tab goes in and out, arrows, Home and End move inside. */

/**
 * The place to go to, or -1 where a key moves nothing.
 *
 * @param {string} key As the browser names it.
 * @param {number} place Where one is, from 0.
 * @param {number} count How many there are.
 */
export function nextPlace(key, place, count) {
  if (key === "ArrowRight" || key === "ArrowDown") return Math.min(place + 1, count - 1);
  if (key === "ArrowLeft" || key === "ArrowUp") return Math.max(place - 1, 0);
  if (key === "Home") return 0;
  return key === "End" ? count - 1 : -1;
}

/**
 * Makes the parts of a box one tab stop. Parts that come later are added with `add`.
 *
 * @param {HTMLElement} box
 * @param {string} selector Of the parts, in order.
 */
export function rove(box, selector) {
  const parts = () => [...box.querySelectorAll(selector)];
  let stop = null; // the one that Tab reaches: of an answer of thousands of words two are touched, never all
  const settle = (chosen) => {
    if (stop && stop !== chosen) stop.tabIndex = -1;
    stop = chosen;
    stop.tabIndex = 0;
  };
  box.addEventListener("keydown", (event) => {
    const all = parts();
    const place = nextPlace(event.key, all.indexOf(event.target), all.length);
    if (place < 0 || !all.includes(event.target)) return;
    event.preventDefault();
    settle(all[place]);
    all[place].focus();
  });
  box.addEventListener("focusin", (event) => event.target.matches(selector) && settle(event.target));
  return {
    /** A part is there; the first one takes the tab stop. */
    add(part) {
      if (stop && stop !== part && box.contains(stop)) part.tabIndex = -1;
      else settle(part);
    },
  };
}
