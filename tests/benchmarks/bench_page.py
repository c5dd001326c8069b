"""How long pages take in a real browser, among them that of a run of 32 layers with 7 modules each.

``python -m tests.benchmarks.bench_page --json FILE`` prints seconds and keeps them as JSON: from asking for a page to
what stands on it, and from a click on each tab of the run to its first and its last figure, from stored results. They
are times of this machine, for people to read. A browser that has been here has the scripts (``warm``); one that has not
is what ``cold`` means. Requests to other hosts are counted, and the memory of the web process is read at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from hydralora.results import AnswerRow, Answers, Heads, MatrixMap, Point, Score
from jobs.home import Home
from jobs.kinds import FIRST_MAP
from jobs.store.store import Store
from tests.browser.conftest import Studio, Trouble
from tests.setup import find_chromium
from tests.studio.stored import Stored, experts_result, routing_result, weights_result

MODULES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
LAYERS = [f"model.layers.{layer}.{module}" for layer in range(32) for module in MODULES]
EXPERTS = 4
QUESTIONS = 240
TABS = {
    "Experts": ("muted-groups", "muted-layers"),
    "Routing": ("gate-layers", "gate-distribution"),
    "Weights": ("head-grid", "matrix-map"),
}
# Each page, and what stands on it once it can be used.
PAGES = {
    "first page": ("/", "#next .hy-next"),
    "data": ("/corpora?corpus=1", "#selected-rows tbody tr"),
    "runs": ("/runs", "#run-table tbody tr"),
    "compare": ("/compare?runs=1,2", "#compare-top h2"),
    "new run": ("/new-run?corpus=1", "#start-run:not([disabled])"),
    "run": ("/run?run=1&tab=answers", ".hy-outcome h1, .hy-outcome h2"),
    "chat": ("/run?run=1&tab=chat", "#chat textarea"),
    "tour": ("/tour", "#tour h1"),
    "bases": ("/bases", "table tbody tr"),
}
ROUNDS = 5


def fill(home: Path) -> None:
    """A finished run with every analysis the page asks for first; no worker is needed."""
    stored = Stored(Store(Home(home)))
    corpus = stored.corpus()
    stored.clustering(corpus)
    run = stored.run(corpus, adapter={"num_experts": EXPERTS})
    half, none = [place % 2 == 0 for place in range(QUESTIONS)], [False] * QUESTIONS
    answers = Answers(
        examples=QUESTIONS,
        scores={
            "base": Score(exact_match=0.0, hits=none, by_label={"tone": 0.0}),
            "tuned": Score(exact_match=0.5, hits=half, by_label={"tone": 0.5}),
        },
        sentence="Done.",
        rows=[
            AnswerRow(id=i, prompt=f"Question {i}?", wanted="a", label="tone", base="b", tuned="a" if hit else f"x {i}")
            for i, hit in enumerate(half)
        ],
    )
    stored.analysis(run, "answers", answers)
    stored.analysis(run, "routing", routing_result(EXPERTS, LAYERS))
    weights = weights_result(EXPERTS, LAYERS)
    folder = stored.home.analysis(stored.analysis(run, "weights", weights).id)
    for step in weights.steps:
        Heads(layers=weights.layers, sentence="Done.").write(folder, step=step)
    points = [
        Point(run="run 1", module=name, layer=place // 7, kind=name.rsplit(".", 1)[-1], expert=expert)
        for place, name in enumerate(LAYERS)
        for expert in range(EXPERTS)
    ]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, len(points))).round(4).tolist()
    found = MatrixMap(**FIRST_MAP, stability=0.5, points=points, x=x, y=y, findings=[], sentence="Done.")
    analysis = stored.analysis(run, "map", found, {**FIRST_MAP})
    distances = rng.random((len(points), len(points)), dtype=np.float32)
    np.save(stored.home.analysis(analysis.id) / "distances.npy", distances)
    experts = experts_result(EXPERTS)
    change = experts.cards[0].layers[0]
    stored.run(corpus, "Another")
    layers = [change.model_copy(update={"layer": name}) for name in LAYERS]
    cards = [card.model_copy(update={"layers": layers}) for card in experts.cards]
    stored.analysis(run, "experts", experts.model_copy(update={"cards": cards, "layers": LAYERS}))


def drawn(page: Page, name: str) -> None:
    """Wait until a figure is drawn."""
    page.locator(f"#{name} .main-svg").first.wait_for(state="visible")


def tabs(page: Page, address: str) -> dict[str, float]:
    """Seconds from opening a run to its verdict, then tab after tab, then a tab again."""
    began = time.perf_counter()
    page.goto(f"{address}/run?run=1&tab=answers")
    page.locator("#run-tabs [role=tab]").first.wait_for()
    stands = time.perf_counter()
    page.locator(".hy-outcome h1, .hy-outcome h2").first.wait_for()
    page.locator("#answers").wait_for()
    found = {
        "run, its tabs stand": stands - began,
        "run, from there to verdict and answers": time.perf_counter() - stands,
    }
    for tab, (first, last) in TABS.items():
        began = time.perf_counter()
        page.get_by_role("tab", name=tab, exact=True).click()
        for part, name in (("first figure", first), ("last figure", last)):
            drawn(page, name)
            found[f"{tab}, {part}"] = time.perf_counter() - began
    began = time.perf_counter()
    page.get_by_role("tab", name="Routing", exact=True).click()
    drawn(page, "gate-layers")
    found["Routing, seen before"] = time.perf_counter() - began
    return found


def pages(page: Page, address: str) -> dict[str, float]:
    """Seconds from asking for each page to what stands on it."""
    found = {}
    for name, (path, ready) in PAGES.items():
        began = time.perf_counter()
        page.goto(address + path, wait_until="commit")
        page.locator(ready).first.wait_for(state="visible")
        found[name] = time.perf_counter() - began
    return found


def medians(visits: list[dict[str, float]]) -> dict[str, float]:
    """The median of each time."""
    return {name: round(statistics.median(visit[name] for visit in visits), 3) for name in visits[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        home = Path(work) / "home"
        fill(home)
        studio = Studio(home)
        try:
            studio.start()
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            cold, warm, runs, trouble = [], [], [], Trouble()
            for _ in range(ROUNDS):
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                studio.let_in(context)
                page = context.new_page()
                trouble.watch(page, studio.address)
                cold.append(pages(page, studio.address)["first page"])
                warm.append(pages(page, studio.address))
                runs.append(tabs(page, studio.address))
                context.close()
            assert studio.process is not None
            memory = psutil.Process(studio.process.pid).memory_full_info()
        finally:
            studio.end()
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "load_before": load,
        "modules": len(LAYERS),
        "requests_to_other_hosts": len(trouble.foreign),
        "web_process_own_mb": round(memory.uss / 1e6, 1),
        "web_process_with_shared_libraries_mb": round(memory.rss / 1e6, 1),
        "first_page_cold_s": round(statistics.median(cold), 3),
        "pages_warm_s": medians(warm),
        "run_s": medians(runs),
    }
    print(json.dumps(found, indent=1))
    options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
