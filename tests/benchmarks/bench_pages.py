"""What the pages cost the server: lists of 1,000 runs, a run of 100,000 steps, 150 open tabs, millions of steps.

``python -m tests.benchmarks.bench_pages --json FILE`` prints the figures and keeps them as JSON. What can be compared
is measured beside the former way in the same process on the same machine: every step read and parsed at each look, and
an event of Gradio's every two seconds from each tab. The tabs ask a real studio in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import psutil
from gradio.blocks import BlockFunction
from sqlalchemy import insert
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from hydralora.config import parse_config
from jobs.home import Home
from jobs.store.gates import pack
from jobs.store.store import Store
from jobs.store.tables import CorpusRow, GateLayersRow, GateRow, JobRow, RunRow, StepRow
from studio.pages.home.page import HomePage
from studio.pages.run.page import RunPage
from studio.web.api import ROUTED_SHOWN, STEPS_SHOWN
from tests.browser.conftest import Studio
from tests.jobs.conftest import counting
from tests.security.studio_client import events_of, make_client

RUNS, STEPS, TABS = 1_000, 100_000, 150
LAYERS = [f"model.layers.{layer}.mlp.up_proj" for layer in range(28)]
EXPERTS, GATE_EVERY, MEASURED_EVERY = 4, 5, 500
TAB_SECONDS = 2.0  # between two questions of a tab
BATCH = 10_000  # rows written at once
ROUNDS = 15

Figures = dict[str, Any]


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median milliseconds of a call, the first one left out."""
    work()
    return statistics.median(_milliseconds(work) for _ in range(rounds))


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def add_runs(store: Store, count: int) -> None:
    """Finished runs, each on a corpus of its own."""
    config = parse_config({}).model_dump()
    with Session(store.engine) as session, session.begin():
        for number in range(count):
            job = JobRow(kind="train", lane="heavy", status="succeeded", payload={"config": config}, finished_at=1.0)
            corpus = CorpusRow(name=f"corpus {number}", examples=100)
            session.add_all([job, corpus])
            session.flush()
            summary = {"held_out_loss": 1.0, "trainable": 1_000, "total": 10_000, "steps": 1}
            run = RunRow(name=f"run {number}", corpus_id=corpus.id, config=config, job_id=job.id, summary=summary)
            session.add(run)
            session.flush()
            job.run_id = run.id


def add_steps(store: Store, run_id: int, count: int, rng: np.random.Generator, *, routes: bool = True) -> None:
    """Steps of a run, as training records them: full doubles, and routing weights with every fifth where it routes."""
    layers, _ = pack({name: [1 / EXPERTS] * EXPERTS for name in LAYERS})
    with store.engine.begin() as connection:
        connection.execute(insert(GateLayersRow), [{"run_id": run_id, "layers": layers}])
    for begin in range(1, count + 1, BATCH):
        steps = range(begin, min(begin + BATCH, count + 1))
        numbers = rng.random((len(steps), 4))
        rows = [
            {
                "run_id": run_id,
                "step": step,
                "loss": loss,
                "eval_loss": loss if step % MEASURED_EVERY == 0 else None,
                "learning_rate": rate * 1e-3,
                "grad_norm": norm,
                "tokens_per_second": speed * 3e3,
                "more": None,
            }
            for step, (loss, rate, norm, speed) in zip(steps, numbers.tolist(), strict=True)
        ]
        routed = [step for step in steps if step % GATE_EVERY == 0 and routes]
        shares = rng.integers(0, 20_000, (len(routed), len(LAYERS) * (EXPERTS - 1))).astype("<u2")
        gates = [
            {"run_id": run_id, "step": step, "shares": row.tobytes(), "layers": None}
            for step, row in zip(routed, shares, strict=True)
        ]
        with store.engine.begin() as connection:
            connection.execute(insert(StepRow), rows)
            if gates:
                connection.execute(insert(GateRow), gates)


def overview(folder: Path) -> Figures:
    """The first page at ``RUNS`` runs."""
    store = Store(Home(folder))
    add_runs(store, RUNS)
    with gr.Blocks() as blocks:
        page = HomePage(blocks, store)

    def draw() -> object:
        return page.draw()

    draw()
    with counting(store) as said:
        draw()
    return {
        "runs": RUNS,
        "statements": len(said),
        "ms": median_ms(draw),
        "before_statements": 3_026,
        "before_ms": 1_270,
    }


def tick(folder: Path) -> Figures:
    """The handler of the Run page and the reads behind its figures at ``STEPS`` steps, and the former way beside it."""
    store = Store(Home(folder))
    add_runs(store, 1)
    add_steps(store, 1, STEPS, np.random.default_rng(0))
    with gr.Blocks() as blocks:
        page = RunPage(blocks, store)
    request = gr.Request()
    request.query_params = QueryParams({"run": "1"})  # type: ignore[attr-defined]
    inputs = [0, "", *(pick.value for pick in page.own_picks)]
    known = page.draw(request, *inputs, "")[page.stamp]
    found = {
        "steps": STEPS,
        "drawn_anew_ms": median_ms(lambda: page.draw(request, *inputs, "")),
        "nothing_new_ms": median_ms(lambda: page.draw(request, *inputs, known)),
        "curve_ms": median_ms(lambda: store.runs.steps(1, most=STEPS_SHOWN, gates=False)),
        "gates_ms": median_ms(lambda: store.runs.routed_steps(1, ROUTED_SHOWN)),
        "every_step_as_json_ms": every_step_as_json(folder / "former.db"),
        "before_ms": 4_400,
    }
    return found


def every_step_as_json(path: Path) -> float:
    """Milliseconds to read and parse rows of JSON, as every look did before: one row a step, gates beside numbers."""
    gates = json.dumps({name: [random.random() for _ in range(EXPERTS)] for name in LAYERS})
    numbers = json.dumps(
        {name: random.random() for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second")}
    )
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metrics (run_id, step, numbers JSON, gates JSON, PRIMARY KEY (run_id, step))")
        rows = ((1, step, numbers, gates if step % GATE_EVERY == 0 else None) for step in range(1, STEPS + 1))
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)

        def read() -> object:
            found = connection.execute("SELECT step, numbers, gates FROM metrics WHERE run_id = 1 ORDER BY step")
            return [(step, json.loads(each), json.loads(routed) if routed else None) for step, each, routed in found]

        return median_ms(read, 3)


def many_rows(folder: Path, rows: int) -> Figures:
    """Bytes of a row, its routing weights included, and a thinned curve among ``rows`` of them."""
    store = Store(Home(folder))
    runs = max(1, rows // STEPS)
    add_runs(store, runs)
    empty = _size(store)
    rng = np.random.default_rng(0)
    for run_id in range(1, runs + 1):
        add_steps(store, run_id, rows // runs, rng)
    written = runs * (rows // runs)
    each = (_size(store) - empty) / written
    return {
        "rows": written,
        "bytes_a_row": each,
        "gb_for_ten_million": each * 1e7 / 1e9,
        "curve_ms": median_ms(lambda: store.runs.steps(runs, most=STEPS_SHOWN, gates=False)),
        "before_gb": 8.4,
    }


def _size(store: Store) -> int:
    """Bytes of the database once its log is written back."""
    with store.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return (store.home.root / "studio.db").stat().st_size


def tabs(folder: Path, seconds: float) -> Figures:
    """``TABS`` tabs on a finished run of 30 steps: asking what changed, and firing an event of Gradio each time."""
    store = Store(Home(folder))
    add_runs(store, 1)
    add_steps(store, 1, 30, np.random.default_rng(0))
    client = make_client(store.home)
    number, event = next(
        (n, found) for n, found in events_of(client).items() if found.page == "run" and found.name == "draw"
    )
    studio = Studio(folder)
    studio.start()
    try:
        polled = asyncio.run(_open_tabs(studio, seconds, _ask_for_changes))
        fired = asyncio.run(_open_tabs(studio, seconds, _fire_event(number, event)))
    finally:
        studio.end()
    return {"tabs": TABS, "seconds": seconds, "polling": polled, "gradio_event": fired, "before_p50_ms": 4_442}


Ask = Callable[[httpx.AsyncClient, str], Awaitable[str]]  # a client and what is known, to what is known then


async def _ask_for_changes(client: httpx.AsyncClient, known: str) -> str:
    reply = await client.get("/ui/changes", params={"of": "run-1", "since": known})
    reply.raise_for_status()
    return known if reply.status_code == 204 else str(reply.json()["stamp"])


def _fire_event(number: int, event: BlockFunction) -> Ask:
    """The event that draws the run: what stands on its page is sent along, and the last input is what is known."""
    values, place = [part.value for part in event.inputs[:-1]], event.outputs.index(event.inputs[-1])

    async def fire(client: httpx.AsyncClient, known: str) -> str:
        body = {"data": [*values, known], "fn_index": number, "session_hash": "bench", "event_data": None}
        reply = await client.post("/gradio_api/run/predict?run=1", json=body)
        reply.raise_for_status()
        stamp = reply.json()["data"][place]
        return stamp if isinstance(stamp, str) else known

    return fire


async def _open_tabs(studio: Studio, seconds: float, ask: Ask) -> Figures:
    headers = {"Authorization": f"Bearer {studio.token}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=TABS)
    async with httpx.AsyncClient(base_url=studio.address, headers=headers, limits=limits, timeout=60) as client:
        until, before = time.perf_counter() + seconds, _processor_seconds(studio)
        found = await asyncio.gather(*(one_tab(client, ask, until) for _ in range(TABS)))
    times = sorted(each for tab, _ in found for each in tab)
    lost = sum(failed for _, failed in found)
    spent = _processor_seconds(studio) - before
    return {
        "requests": len(times),
        "p50_ms": statistics.median(times),
        "p95_ms": times[int(0.95 * len(times))],
        "processor_ms_a_request": 1e3 * spent / max(1, len(times)),
        "dropped": lost,
    }


def _processor_seconds(studio: Studio) -> float:
    """Seconds of processor that the web process has taken so far; a busy machine changes them little."""
    assert studio.process is not None
    times = psutil.Process(studio.process.pid).cpu_times()
    return float(times.user + times.system)


async def one_tab(client: httpx.AsyncClient, ask: Ask, until: float) -> tuple[list[float], int]:
    """Milliseconds of the questions of one tab, and how many were not answered."""
    times, lost, known = [], 0, ""
    await asyncio.sleep(random.random() * TAB_SECONDS)  # tabs are not opened at the same moment
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            known = await ask(client, known)
            times.append(1e3 * (time.perf_counter() - began))
        except httpx.HTTPError:
            lost += 1
        await asyncio.sleep(TAB_SECONDS)
    return times, lost


def rounded(value: Any) -> Any:
    """Numbers as they are read."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return round(value, 3 if abs(value) < 10 else 1) if isinstance(value, float) else value


def measure(parts: dict[str, Callable[[Path], Figures]], only: str | None, target: Path) -> None:
    """Run each part in a folder of its own, or one alone, print what it found and write all to a file."""
    found: Figures = {"machine": f"{platform.machine()}, {psutil.cpu_count()} cores"}
    with tempfile.TemporaryDirectory() as work:
        for name, part in parts.items():
            if only in (None, name):
                load = psutil.getloadavg()[0]
                found[name] = rounded({**part(Path(work) / name), "load_before": load})
                print(json.dumps({name: found[name]}, indent=1), flush=True)
    target.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000, help="steps that are written to weigh them")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which the tabs ask, each way")
    parser.add_argument("--only", choices=["overview", "run_page", "open_tabs", "many_steps"], help="one part alone")
    options = parser.parse_args()
    parts: dict[str, Callable[[Path], Figures]] = {
        "overview": overview,
        "run_page": tick,
        "open_tabs": lambda folder: tabs(folder, options.seconds),
        "many_steps": lambda folder: many_rows(folder, options.rows),
    }
    measure(parts, options.only, options.json)


if __name__ == "__main__":
    main()
