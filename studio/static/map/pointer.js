/** Hands on the map: drag to move, wheel or keys to zoom, a click for one point, a loop for several. */

const REACH = 9; // px around the pointer in which a point is meant
const STILL = 4; // px that a hand trembles during a click
const STEP = 60; // px that an arrow moves
const ZOOM = 1.4;
const KEYS = {
  ArrowLeft: (view) => view.pan(STEP, 0),
  ArrowRight: (view) => view.pan(-STEP, 0),
  ArrowUp: (view) => view.pan(0, STEP),
  ArrowDown: (view) => view.pan(0, -STEP),
  "+": (view) => view.zoomAt(view.width / 2, view.height / 2, ZOOM),
  "-": (view) => view.zoomAt(view.width / 2, view.height / 2, 1 / ZOOM),
  0: (view) => view.reset(),
};

/**
 * Listens on the stage of a map.
 *
 * @param {HTMLElement} stage
 * @param {object} map With `view`, `loop`, `isLooping`, `nearest(left, top, reach)`, `changed()`, `point(number, left,
 *   top)` for the point under the pointer, `click(number)` and `stopLooping()`.
 */
export function listen(stage, map) {
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let from = null; // where a drag began, and where it is
  const begin = (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    stage.setPointerCapture(event.pointerId);
    if (map.isLooping) map.loop.begin(place(event));
    else from = { start: place(event), last: place(event), moved: false };
  };
  const move = (event) => {
    const [left, top] = place(event);
    if (map.loop.isDrawing) {
      // A busy browser tells several moves as one; a corner of the loop may be among them.
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const each of moves.length ? moves : [event]) map.loop.add(place(each));
    } else if (from) {
      from.moved ||= Math.hypot(left - from.start[0], top - from.start[1]) > STILL;
      if (from.moved) map.view.pan(left - from.last[0], top - from.last[1]);
      from.last = [left, top];
      map.changed();
    } else {
      map.point(map.nearest(left, top, REACH), left, top);
    }
  };
  const end = (event) => {
    const [left, top] = place(event);
    if (map.loop.isDrawing) {
      map.loop.end();
      map.stopLooping();
    } else if (from && !from.moved) {
      map.click(map.nearest(left, top, REACH));
    }
    from = null;
  };
  stage.addEventListener("pointerdown", begin);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", () => {
    from = null;
    map.loop.cancel();
  });
  stage.addEventListener("pointerleave", () => map.point(-1, 0, 0));
  listenToWheelAndKeys(stage, map, place);
}

// The wheel scrolls the page, unless the map has the keyboard or Ctrl is held (as a pinch on a touchpad does).
function listenToWheelAndKeys(stage, map, place) {
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== stage) return;
      event.preventDefault();
      map.view.zoomAt(...place(event), event.deltaY < 0 ? ZOOM : 1 / ZOOM);
      map.changed();
    },
    { passive: false },
  );
  stage.addEventListener("keydown", (event) => {
    if (event.key === "Escape") map.stopLooping();
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(map.view);
    map.changed();
  });
}
