import assert from "node:assert/strict";
import test from "node:test";

import { shares } from "../../studio/static/map/colour.js";
import { Grid } from "../../studio/static/map/grid.js";
import { placeNames } from "../../studio/static/map/labels.js";
import { LoopDrawer } from "../../studio/static/map/loop-drawer.js";
import { MOST_CORNERS, isLoop, simplify, thin } from "../../studio/static/map/loop.js";
import { pointSize } from "../../studio/static/map/painter.js";
import { listen } from "../../studio/static/map/pointer.js";
import { LARGEST, centres, countByCluster, readMask, readPoints } from "../../studio/static/map/points.js";
import { View } from "../../studio/static/map/view.js";

/** Points as the studio sends them. */
function packed(x, y, cluster) {
  const buffer = new ArrayBuffer(5 * x.length);
  new Uint16Array(buffer, 0, x.length).set(x);
  new Uint16Array(buffer, 2 * x.length, x.length).set(y);
  new Uint8Array(buffer, 4 * x.length).set(cluster);
  return buffer;
}

/** Numbers that look drawn by lot, and are the same in every run. */
function* drawn(seed = 1) {
  for (let value = seed; ; ) {
    value = (value * 1_103_515_245 + 12_345) % 2 ** 31;
    yield value / 2 ** 31;
  }
}

const seen = () => {
  const view = new View();
  view.resize(600, 400);
  return view;
};

test("points are read as they were sent", () => {
  const points = readPoints(packed([1, 65_535, 7], [2, 3, 4], [0, 255, 1]));
  assert.deepEqual([points.count, [...points.x], [...points.y]], [3, [1, 65_535, 7], [2, 3, 4]]);
  assert.deepEqual([...points.cluster], [0, 255, 1]);
});

test("a reply that was cut short is not taken for points", () => {
  assert.throws(() => readPoints(new ArrayBuffer(7)), /7 bytes/);
});

test("a mask says for every point whether it is selected, and none says all", () => {
  assert.deepEqual([...readMask("", 3)], [1, 1, 1]);
  const bits = Buffer.from([0b00000101, 0b00000010]).toString("base64");
  assert.deepEqual([...readMask(bits, 10)], [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
});

test("selected points are counted by cluster, clusters have their middle", () => {
  const points = readPoints(packed([0, 10, 20], [0, 0, 30], [0, 0, 1]));
  assert.deepEqual(countByCluster(points.cluster, Uint8Array.from([1, 0, 1]), 3), [1, 1, 0]);
  assert.deepEqual(centres(points, 3), [[5, 0], [20, 30], null]);
});

test("the nearest point is the one that a look at all points finds", () => {
  const [lot, count] = [drawn(), 3_000];
  const values = () => Array.from({ length: count }, () => Math.floor(lot.next().value * (LARGEST + 1)));
  const points = readPoints(packed(values(), values(), new Array(count).fill(0)));
  const [grid, scale, reach] = [new Grid(points), { x: 0.01, y: 0.02 }, 9];
  for (let tries = 0; tries < 300; tries += 1) {
    const [x, y] = [lot.next().value * 70_000 - 2_000, lot.next().value * 70_000 - 2_000];
    const away = (point) => Math.hypot((points.x[point] - x) * scale.x, (points.y[point] - y) * scale.y);
    const all = Array.from({ length: count }, (_, point) => away(point));
    const least = Math.min(...all);
    const found = grid.nearest(x, y, scale, reach);
    assert.equal(found < 0 ? Infinity : away(found), least <= reach ? least : Infinity);
  }
});

test("a place and its pixel lead to each other, wherever one looks", () => {
  const view = seen();
  for (let step = 0; step < 6; step += 1) {
    const [left, top] = view.toScreen(12_345, 54_321);
    const [x, y] = view.toMap(left, top);
    assert.ok(Math.abs(x - 12_345) < 1e-6 && Math.abs(y - 54_321) < 1e-6);
    view.zoomAt(150, 90, 1.5);
    view.pan(30, -20);
  }
});

test("what lies under the pointer stays there while one zooms", () => {
  const view = seen();
  view.zoomAt(300, 200, 4);
  const before = view.toMap(250, 180);
  view.zoomAt(250, 180, 1.3);
  const after = view.toMap(250, 180);
  assert.ok(Math.abs(before[0] - after[0]) < 1e-6 && Math.abs(before[1] - after[1]) < 1e-6);
});

test("neither zoom nor a move leads away from the map", () => {
  const view = seen();
  view.pan(1e6, -1e6);
  assert.deepEqual([view.x, view.y], [LARGEST / 2, LARGEST / 2]);
  view.zoomAt(0, 0, 1e9);
  view.pan(1e9, 1e9);
  assert.ok(view.zoom <= 64 && view.x >= 0 && view.y <= LARGEST);
  view.reset();
  assert.deepEqual([view.zoom, view.x], [1, LARGEST / 2]);
});

test("WebGL draws a point where the pointer finds it", () => {
  const view = seen();
  view.zoomAt(100, 300, 3);
  const [across, up, right, above] = view.clip;
  const [left, top] = view.toScreen(20_000, 50_000);
  const [x, y] = [(20_000 / LARGEST) * across + right, (50_000 / LARGEST) * up + above];
  assert.ok(Math.abs(((x + 1) / 2) * 600 - left) < 1e-6 && Math.abs(((1 - y) / 2) * 400 - top) < 1e-6);
});

test("corners on one line are dropped, those of a shape stay", () => {
  assert.deepEqual(simplify([[0, 0], [1, 0], [2, 0.01], [3, 0], [3, 3]], 0.5), [[0, 0], [3, 0], [3, 3]]);
});

test("a loop of ten thousand places has few corners and keeps its size", () => {
  const lot = drawn(7);
  const hand = Array.from({ length: 10_000 }, (_, i) => {
    const [angle, reach] = [(i / 10_000) * 2 * Math.PI, 150 + 20 * lot.next().value];
    return [300 + reach * Math.cos(angle), 200 + reach * Math.sin(angle)];
  });
  const corners = thin(hand);
  assert.ok(corners.length >= 3 && corners.length <= MOST_CORNERS, String(corners.length));
  const wide = (places) => Math.max(...places.map(([x]) => x)) - Math.min(...places.map(([x]) => x));
  assert.ok(Math.abs(wide(corners) - wide(hand)) < 40);
});

test("a click that trembles is no loop", () => {
  assert.ok(!isLoop([[5, 5], [6, 5], [6, 6]]) && !isLoop([[0, 0], [100, 100]]));
  assert.ok(isLoop([[0, 0], [50, 0], [0, 50]]));
});

test("a loop is told in units of the map, whole numbers, and a dropped one tells nothing", () => {
  const told = [];
  const drawer = new LoopDrawer({ setAttribute() {} }, seen(), (loop) => told.push(loop));
  drawer.begin([100, 100]);
  for (const place of [[300, 100], [300, 300]]) drawer.add(place);
  assert.ok(drawer.isDrawing);
  drawer.end();
  drawer.begin([1, 1]);
  drawer.end();
  drawer.begin([100, 100]);
  drawer.cancel();
  drawer.end();
  assert.equal(told.length, 1);
  assert.ok(told[0].length === 3 && told[0].flat().every(Number.isInteger));
});

test("moves that a busy browser tells as one all become corners of the loop", () => {
  const heard = {};
  const stage = {
    addEventListener: (name, act) => (heard[name] = act),
    getBoundingClientRect: () => ({ left: 10, top: 20 }),
    setPointerCapture() {},
  };
  const told = [];
  const loop = new LoopDrawer({ setAttribute() {} }, seen(), (corners) => told.push(corners));
  listen(stage, { isLooping: true, loop, stopLooping() {}, point() {} });
  const at = (clientX, clientY) => ({ clientX, clientY, button: 0, isPrimary: true });
  heard.pointerdown(at(110, 120));
  heard.pointermove({ ...at(110, 320), getCoalescedEvents: () => [at(310, 120), at(310, 320), at(110, 320)] });
  heard.pointermove({ ...at(110, 220), getCoalescedEvents: () => [] });
  heard.pointerup(at(110, 220));
  assert.equal(told.length, 1);
  const corner = seen().toMap(300, 300).map(Math.round);
  assert.ok(told[0].some(([x, y]) => x === corner[0] && y === corner[1]));
});

test("no name stands over another, and that of the largest cluster stands", () => {
  const clusters = [{ name: "C1 small", size: 3 }, { name: "C2 large", size: 9 }, { name: "C3 apart", size: 1 }];
  const shown = placeNames(clusters, [[100, 100], [104, 102], [400, 300], null], 600, 400);
  assert.deepEqual(shown.map(({ number }) => number), [1, 2]);
  assert.deepEqual(placeNames(clusters, [[-5, 100], [100, 900], null], 600, 400), []);
  assert.ok(placeNames(clusters, [[599, 100], null, null], 600, 400)[0].left < 580);
});

test("colours are shares, and what is none is black", () => {
  assert.deepEqual(shares(" #ff0080 "), [1, 0, 128 / 255]);
  assert.deepEqual(shares("url(x)"), [0, 0, 0]);
});

test("points are smaller where there are many and grow with the zoom", () => {
  assert.ok(pointSize(100_000, 1) < pointSize(5_000, 1) && pointSize(5_000, 1) < pointSize(100, 1));
  assert.ok(pointSize(100_000, 8) > pointSize(100_000, 1) && pointSize(10, 64) <= 14);
});
