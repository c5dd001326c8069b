"""What the map of a corpus costs a browser: bytes, and processor time of every process of a Chromium without a GPU."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.query import Query
from jobs.home import Home
from jobs.store.store import Store
from studio.pages.corpora.selection_views import map_of
from tests.browser.conftest import Studio
from tests.setup import find_chromium
from tests.studio.stored import Stored

# Draws the map in a place of its own on a page that holds no other, until the points stand on the screen.
DRAW = """async (value) => {
  const module = await import("/ui/static/corpus-map.js");
  const element = document.createElement("div");
  element.innerHTML = "<div class='hy-map'><svg><polygon></polygon></svg></div>";
  document.body.prepend(element);
  const start = performance.now();
  module.start(element, { value }, () => {}, () => {});
  while (!element.querySelector(".legend li")) await new Promise((done) => setTimeout(done, 5));
  const gl = element.querySelector("canvas").getContext("webgl2");
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  gl.finish();
  const sent = performance.getEntriesByType("resource").find(({ name }) => name.includes("/ui/clusterings/"));
  return { seconds: (performance.now() - start) / 1000, bytes: sent.encodedBodySize };
}"""
ZOOM = """async () => {
  const stage = document.querySelector(".hy-map .stage");
  stage.focus();
  for (let turn = 0; turn < 10; turn += 1) {
    stage.dispatchEvent(new KeyboardEvent("keydown", { key: turn % 2 ? "-" : "+" }));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  }
  document.querySelector(".hy-map canvas").getContext("webgl2").finish();
}"""


def spent() -> float:
    """Processor seconds of the Chromium that this process has started."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def measure_map(folder: Path, table: Path) -> dict[str, Any]:
    """Bytes sent, and seconds of wall clock and processor from a value to drawn points, and of one zoom."""
    path = find_chromium()
    if path is None:
        return {"not measured": "no Chromium on this machine"}
    value = _value(folder, table)
    studio = Studio(folder, words=("--no-worker",))
    studio.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            studio.let_in(context)
            page = context.new_page()
            page.goto(studio.address + "/corpora")
            page.wait_for_load_state("networkidle")
            time.sleep(2)
            return _measure(page, value)
    finally:
        studio.end()


def _value(folder: Path, table: Path) -> dict[str, Any]:
    """The map's value for a table in 12 clusters."""
    stored = Stored(Store(Home(folder)))
    corpus = stored.store.corpora.add("rows", [table])
    stored.end(corpus.job, import_corpus([table], stored.home.corpus(corpus.id)).row())
    made = stored.store.clusterings.add(corpus.id, 12)
    found = cluster_corpus(stored.home.corpus(corpus.id), stored.home.clustering(made.id), k=12)
    stored.end(made.job, found.row())
    selections, query = stored.store.selections, Query()
    value = map_of(selections.membership(corpus.id), corpus.id, query, selections.find(corpus.id, query))
    loaded: dict[str, Any] = json.loads(json.dumps(value))
    return loaded


def _measure(page: Page, value: dict[str, Any]) -> dict[str, Any]:
    before = spent()
    drawn = page.evaluate(DRAW, value)
    time.sleep(1)  # what is still being drawn in other processes
    after = spent()
    page.evaluate(ZOOM)
    time.sleep(1)
    return {
        "points": value["count"],
        "bytes": drawn["bytes"],
        "seconds": round(drawn["seconds"], 2),
        "processor": round(after - before, 2),
        "a zoom, processor": round((spent() - after) / 10, 3),
    }
