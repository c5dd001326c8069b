"""How live the pages stay at scale: 150 open tabs while a run trains and another is read; 50 runs of 100,000 points.

``python -m tests.benchmarks.bench_live --json FILE``. The tabs ask a real studio, whose worker trains the starter on a
sample; a reader opens the pages and figures of a finished run meanwhile. The same without the training stands beside
it. They are times of this machine, for people to read.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from hydralora.samples import CORPORA
from jobs.home import Home
from jobs.store.records import Run
from jobs.store.store import Store
from studio.comparison.desk import Desk
from studio.comparison.drawings import curves_figure
from studio.comparison.groups import SETTINGS
from studio.figures.look import Look
from tests.benchmarks.bench_pages import TABS, add_runs, add_steps, measure, one_tab
from tests.browser.conftest import Studio, wait_until

RUNS, POINTS = 50, 100_000
READ_SECONDS = 2.0  # between two pages of the reader
READ = ("/run?run=1&tab=training", "/ui/figures/runs/1/loss", "/ui/figures/runs/1/gates?layer={layer}", "/ui/jobs")
TRAIN = {"method": "hydralora", "train": {"max_steps": 20_000, "save_every": 200, "eval_every": 20_000}}
TOPICS = ("run-1", "run-{run}", "jobs")  # what a third of the tabs looks at, each

Figures = dict[str, Any]


def start_training(studio: Studio, store: Store) -> Run:
    """A run of the starter that trains, once its first steps are stored."""
    corpus = store.corpora.add("four-trades", [CORPORA / "four-trades" / "four-trades.jsonl"])
    wait_until(lambda: store.corpora.get(corpus.id).is_ready, 300)
    run = store.runs.start(corpus.id, {"base": "starter", **TRAIN})
    wait_until(lambda: len(store.runs.steps(run.id)) > 5, 300)
    return run


async def _read(client: httpx.AsyncClient, until: float) -> list[float]:
    times = []
    while time.perf_counter() < until:
        for path in READ:
            began = time.perf_counter()
            reply = await client.get(path.format(layer="model.layers.3.mlp.up_proj"))
            reply.raise_for_status()
            times.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(READ_SECONDS)
    return times


async def _look(studio: Studio, seconds: float, run_id: int) -> Figures:
    """All tabs and the reader for so many seconds."""
    headers = {"Authorization": f"Bearer {studio.token}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=TABS)
    topics = [topic.format(run=run_id) for topic in TOPICS]

    def ask_of(topic: str) -> Any:
        async def ask(client: httpx.AsyncClient, known: str) -> str:
            reply = await client.get("/ui/changes", params={"of": topic, "since": known})
            reply.raise_for_status()
            return known if reply.status_code == 204 else str(reply.json()["stamp"])

        return ask

    async with httpx.AsyncClient(base_url=studio.address, headers=headers, limits=limits, timeout=60) as client:
        until = time.perf_counter() + seconds
        tabs = [one_tab(client, ask_of(topics[number % len(topics)]), until) for number in range(TABS)]
        read, *found = await asyncio.gather(_read(client, until), *tabs)
    times = sorted(each for tab, _ in found for each in tab)
    return {
        "questions": len(times),
        "p50_ms": statistics.median(times),
        "p95_ms": times[int(0.95 * len(times))],
        "dropped": sum(lost for _, lost in found),
        "reader_p50_ms": statistics.median(read),
        "reader_most_ms": max(read),
    }


def tabs(folder: Path, seconds: float) -> Figures:
    """What the tabs wait for, first while nothing trains, then while a run does."""
    store = Store(Home(folder))
    add_runs(store, 1)
    add_steps(store, 1, 1_000, np.random.default_rng(0))
    studio = Studio(folder)
    studio.start()
    try:
        found = {"nothing trains": asyncio.run(_look(studio, seconds, 1))}
        run = start_training(studio, store)
        first = store.runs.newest(run.id)
        found["a run trains"] = asyncio.run(_look(studio, seconds, run.id))
        last = store.runs.newest(run.id)
        assert first is not None and last is not None and last.step > first.step, "nothing was trained meanwhile"
        found["a run trains"]["steps_meanwhile"] = last.step - first.step
    finally:
        studio.end()
    return {"tabs": TABS, "seconds": seconds, **found}


def compare(folder: Path) -> Figures:
    """The curves of many long runs over each other: seconds of the first answer and of a further one."""
    store = Store(Home(folder))
    add_runs(store, RUNS)
    rng = np.random.default_rng(0)
    for run_id in range(1, RUNS + 1):
        add_steps(store, run_id, POINTS, rng, routes=False)

    def draw() -> object:
        compared = Desk(store).compared(range(1, RUNS + 1), SETTINGS)
        return curves_figure(store, compared, "training", Look()).to_json()

    times = []
    for _ in range(4):
        began = time.perf_counter()
        draw()
        times.append(1e3 * (time.perf_counter() - began))
    return {"runs": RUNS, "points": POINTS, "first_ms": times[0], "ms": statistics.median(times[1:])}


def main() -> None:
    """Measure both, print them, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=["tabs", "compare"])
    options = parser.parse_args()
    parts: dict[str, Callable[[Path], Figures]] = {
        "tabs": lambda folder: tabs(folder, options.seconds),
        "compare": compare,
    }
    measure(parts, options.only, options.json)


if __name__ == "__main__":
    main()
