"""What comparing costs the server: the list of 1,000 runs, and 1,000 runs of 2,000 steps laid over each other.

``python -m tests.benchmarks.bench_compare --json FILE`` prints the figures and keeps them as JSON. ``first_ms`` is the
first answer after a start, ``ms`` the median of further ones; ``cpu_ms`` is the processor's time alone, which other
work on the machine does not lengthen much.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from hydralora.config import parse_config
from jobs.home import Home
from jobs.store.positions import packed
from jobs.store.run_list import SORTS, RunQuery
from jobs.store.store import Store
from jobs.store.tables import AnalysisRow, CorpusRow, JobRow, RunRow, ScoreRow, StepRow
from studio.comparison.desk import Desk
from studio.comparison.drawings import cost_figure, curves_figure, intervals_figure, parallel_figure
from studio.comparison.groups import SETTINGS
from studio.comparison.scores import score_rows
from studio.comparison.tables import speeds_of
from studio.comparison.verdict import verdict_of
from studio.figures.look import Look
from studio.figures.warm import warm_up
from tests.jobs.conftest import counting

RUNS, STEPS, QUESTIONS, MEASURED_EVERY, ROUNDS = 1_000, 2_000, 240, 20, 9
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hydralora", {"num_experts": 4}),
    ("hydralora", {"num_experts": 8}),
    ("r_lora", {}),
    ("lora", {"r": 8}),
    ("lora", {"r": 21}),
)

Figures = dict[str, Any]


def fill(store: Store) -> None:
    """Finished runs of five configurations with 200 seeds each, their scores and their steps."""
    rng = np.random.default_rng(0)
    configs = [parse_config({"method": m, "adapter": a, "train": {"max_steps": STEPS}}).model_dump() for m, a in KINDS]
    with Session(store.engine) as session, session.begin():
        session.add(CorpusRow(name="trades", is_sample=False))
        session.flush()
        for number in range(1, RUNS + 1):
            config = configs[number % len(KINDS)]
            config = {**config, "train": {**config["train"], "seed": number}}
            job = JobRow(kind="train", lane="heavy", status="succeeded", payload={"config": config})
            session.add(job)
            session.flush()
            summary = {"held_out_loss": 1 + float(rng.random()), "seconds": 100.0, "trainable": 1_000, "router": 10}
            run = {"corpus_id": 1, "config": config, "job_id": job.id, "summary": summary}
            session.add(RunRow(id=number, name=f"run {number}", **run))
            session.flush()
            analysis = AnalysisRow(run_id=number, kind="answers", params={}, question=str(number))
            session.add(analysis)
            session.flush()
            hits = rng.random(QUESTIONS) < 0.6
            score = {"questions": QUESTIONS, "exact": int(hits.sum()), "base_exact": 0, "by_label": {"tone": [1, 2]}}
            score |= {"positions": packed(np.arange(QUESTIONS)), "hits": np.packbits(hits).tobytes()}
            session.add(ScoreRow(run_id=number, analysis_id=analysis.id, **score))
    for number in range(1, RUNS + 1):
        noise = rng.random(STEPS) / 10
        rows = [
            {
                "run_id": number,
                "step": step,
                "loss": 1 / step + noise[step - 1],
                "eval_loss": 1 / step if step % MEASURED_EVERY == 0 else None,
                "tokens_per_second": 1_000.0,
            }
            for step in range(1, STEPS + 1)
        ]
        with store.engine.begin() as connection:
            connection.execute(insert(StepRow), rows)


def timed(work: Callable[[], object]) -> Figures:
    """The first answer, the median of further ones, and the processor's time of these."""
    walls, processor = [], []
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(1e3 * (time.perf_counter() - wall))
        processor.append(1e3 * (time.process_time() - cpu))
    found = {"first_ms": walls[0], "ms": statistics.median(walls[1:]), "cpu_ms": statistics.median(processor[1:])}
    return {name: round(value, 1) for name, value in found.items()}


def listing(store: Store) -> Figures:
    """One page of the list, in every order."""
    with counting(store) as said:
        store.run_list.page(RunQuery())
    orders = {sort: timed(partial(store.run_list.page, RunQuery(sort=sort))) for sort in SORTS}
    return {"statements": len(said), **orders}


def comparing(store: Store) -> Figures:
    """Figures and verdict of all runs, as the page and the addresses of its figures ask for them."""
    desk, ids = Desk(store), range(1, RUNS + 1)

    def compared() -> Any:
        return desk.compared(ids, SETTINGS)

    def verdict() -> object:
        found = compared()
        return verdict_of(found, score_rows(found, speeds_of(store, found)))

    return {
        "groups": timed(lambda: Desk(store).compared(ids, SETTINGS)),
        "held_out_curves": timed(lambda: curves_figure(store, compared(), "held-out", Look()).to_json()),
        "training_curves": timed(lambda: curves_figure(store, compared(), "training", Look()).to_json()),
        "single_runs": timed(lambda: curves_figure(store, compared(), "held-out", Look(True, 0.05, True)).to_json()),
        "intervals": timed(lambda: intervals_figure(compared()).to_json()),
        "cost": timed(lambda: cost_figure(compared(), "minutes").to_json()),
        "parallel": timed(lambda: parallel_figure(compared()).to_json()),
        "verdict": timed(verdict),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Home(Path(folder) / "home"))
        fill(store)
        warm_up()
        gc.collect()
        gc.freeze()  # as the web process does before it answers
        found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "runs": RUNS, "steps": STEPS}
        found |= {"load_before": round(os.getloadavg()[0], 2), "list": listing(store), "compare": comparing(store)}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
