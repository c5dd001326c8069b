"""A training of numbers: steps, checkpoints, the lock of its run and the final save are the real ones, the rest is a
chain of hashes. It takes two seconds where a model takes a minute, so it can be killed hundreds of times."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError
from hydralora.files import drop_checkpoints, last_checkpoint, seal_checkpoint, step_of, written_aside
from hydralora.results import RunSummary
from jobs.runner.child import Job
from jobs.runner.ownership import alone_in

PAUSE = 0.03  # seconds of a step
SAVE_EVERY, KEPT = 8, 2  # steps; checkpoints
FILES, FILE_BYTES = 4, 65_536  # of a checkpoint and an adapter
FILE_PAUSE = 0.015  # seconds, so that a kill can come between two files
NOISE = 4 * 2**20  # bytes on standard error


def _train(job: Job) -> RunSummary:
    run = job.home.run(job.payload["run_id"])
    with alone_in(run, job.progress):
        return _steps(job, run)


def _steps(job: Job, run: Path) -> RunSummary:
    checkpoint, state = last_checkpoint(run), f"seed {job.payload['seed']}"
    begin = step_of(checkpoint) if checkpoint else 0
    if checkpoint:
        state = json.loads((checkpoint / "state.json").read_text())
    if job.payload.get("noise"):
        sys.stderr.write("x" * NOISE)
    for step in range(begin + 1, job.payload["steps"] + 1):
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        job.step(step, numbers_of(state))
        job.report(step / job.payload["steps"], f"Step {step}")
        time.sleep(PAUSE)
        ends = job.should_stop() and step < job.payload["steps"]
        if ends or step % SAVE_EVERY == 0:
            _save(run / "checkpoints" / f"checkpoint-{step}", state)
        if ends:
            raise StoppedError(f"Stopped at step {step}.")
    with written_aside(job.place(run / "adapter")) as aside:
        aside.mkdir()
        _write(aside, state)
    return RunSummary(steps=job.payload["steps"], held_out_loss=numbers_of(state)["loss"], resumed_from=begin or None)


def numbers_of(state: str) -> dict[str, Any]:
    """What a step tells: a loss and the shares of two experts."""
    share = int(state[:8], 16) / 2**32
    return {"loss": int(state[8:16], 16) / 2**28, "gates": {"layer": [share, 1.0 - share]}}


def _save(folder: Path, state: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, state)
    (folder / "state.json").write_text(json.dumps(state))
    seal_checkpoint(folder)
    drop_checkpoints(folder.parent, KEPT)


def _write(folder: Path, state: str) -> None:
    for number in range(FILES):
        block = hashlib.sha256(f"{state} file {number}".encode()).digest()
        (folder / f"weights-{number}").write_bytes(block * (FILE_BYTES // len(block)))
        time.sleep(FILE_PAUSE)


def _serve(job: Job) -> dict[str, Any]:
    """Stands by until it is asked to end, as the model server."""
    job.report(0.0, "Ready")
    while not job.should_stop():
        time.sleep(0.05)
    raise StoppedError("Stopped as asked.")


TASKS = {"train": _train, "serve": _serve}
