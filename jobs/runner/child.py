"""One attempt at one job, in a process of its own: `python -m jobs.runner.child FOLDER`.

Reads ``spec.json``, runs the task, and writes ``result.json`` at the end. It knows no database:
progress, metrics and result are files, so a hiccup of the database never stops training.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError, UserError
from hydralora.files import write_json
from hydralora.plain import one_line, without_paths
from hydralora.progress import Progress
from hydralora.results import Part
from jobs.artefacts.address import STORE, StoreError
from jobs.artefacts.sender import early
from jobs.home import Home
from jobs.kinds import KINDS, kind_of
from jobs.runner.limits import OUT_OF_MEMORY, Limits, loosen_memory, machine_memory, sentence
from jobs.runner.logs import begin_log
from jobs.runner.ownership import started_in
from jobs.runner.processes import end_with_parent
from jobs.runner.room import Lines, lacks_room, write_when_there_is_room
from jobs.store.publishing import OUT

log = logging.getLogger("jobs.runner.child")  # under its own name also where it runs as a program
PROGRESS_SECONDS = 0.3  # between two writes of progress.json
TEMPORARY = "temp"  # folder of an attempt for what its process unpacks, which goes with it also where it was killed


class Job:
    """What a task sees of its job: payload, home, and ways to report."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder = folder
        self.kind: str = spec["kind"]
        self.payload: dict[str, Any] = spec["payload"]
        self.home = Home(spec["home"], machine=spec.get("machine", spec["home"]))
        self._stop = threading.Event()
        self._last_progress = 0.0
        self._steps = Lines(folder / "metrics.jsonl")
        self.progress = Progress(self.report, self.should_stop)

    def request_stop(self, *_: object) -> None:
        """Called by SIGTERM."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether to save the state and end: the user asked for a stop, or the machine shuts down."""
        return self._stop.is_set() or self.was_asked_to_stop()

    def place(self, final: Path) -> Path:
        """Where to write what shall stand at ``final`` once the job has succeeded (see ``Kind.outputs``)."""
        out = self.folder / OUT
        out.mkdir(exist_ok=True)
        return out / final.name

    def send_early(self) -> None:
        """Send what is to be published to the artefact store, if there is one, so that its commit takes a moment."""
        for final in KINDS[self.kind].outputs(self.home, self.payload) if self.kind in KINDS else ():
            early(self.home.artefacts, self.folder / OUT / final.name, final)

    def was_asked_to_stop(self) -> bool:
        """Whether the user asked for a stop; without this, TERM alone is an interruption, and the job goes on later."""
        return (self.folder / "stop").exists()

    def report(self, share: float, text: str) -> None:
        """Say how far the job is (0 to 1) and what it is doing."""
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_SECONDS and share < 1.0:
            return
        self._last_progress = now
        text = without_paths(text)  # pages show it
        log.info("%4.0f%%  %s", 100 * share, one_line(text))
        try:
            write_json(self.folder / "progress.json", {"share": share, "text": text}, flush=False)
        except OSError as error:
            if not lacks_room(error):  # else it is news that the next one makes old
                raise

    def step(self, step: int, values: dict[str, Any]) -> None:
        """Record the numbers of one step of a run; one whole line per step."""
        self._steps.add(json.dumps({"run_id": self.payload["run_id"], "step": step, "values": values}))

    def settle(self) -> None:
        """Have every number on the disk, waiting for room while it is full."""
        self._steps.settle(self.was_asked_to_stop)


NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "can't start new thread", "bad_alloc")
NO_DISK = ("No space left on device", "Disk quota exceeded")


def explain(error: BaseException, kind: str = "", limits: Limits | None = None) -> dict[str, str]:
    """An error as kind and plain sentence: what happened, and the way out; ``limits`` are those of the job."""
    text, limits = str(error), limits or Limits()
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, StoreError):
        return {"error_kind": STORE, "error": text}
    if isinstance(error, UserError):
        return {"error_kind": "user", "error": text}
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _says(text, NO_MEMORY):
        is_limited = limits.memory is not None and limits.memory < machine_memory()  # else the machine has no more
        if is_limited and not _says(text, ("cuda",)):
            shrinks = kind in KINDS and KINDS[kind].shrinks
            return {"error_kind": "memory" if shrinks else "limit", "error": sentence(kind, "memory", limits)}
        return {"error_kind": "memory", "error": OUT_OF_MEMORY}
    if limits.file is not None and (number == errno.EFBIG or "File too large" in text):
        return {"error_kind": "limit", "error": sentence(kind, "file", limits)}
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _says(text, (*NO_DISK, "File too large")):
        return {
            "error_kind": "disk",
            "error": "The disk is full; nothing half-written was kept. Free some space "
            "(old runs and corpora can be deleted), then resume.",
        }
    last = (text.strip().splitlines() or [""])[0][:300]
    return {
        "error_kind": "bug",
        "error": f"Something unexpected failed: {type(error).__name__}: {without_paths(last)} "
        "The log holds the details.",
    }


def _says(text: str, words: tuple[str, ...]) -> bool:
    return any(word.lower() in text.lower() for word in words)


def find_task(kind: str, module: str | None = None) -> Callable[[Job], Part | dict[str, Any]]:
    """What does the work of a kind: the task in ``TASKS`` of a module that brings its own, else the kind's."""
    own = getattr(importlib.import_module(module), "TASKS", {}) if module else {}
    return own[kind] if kind in own else kind_of(kind).load()


def _row(found: Part | dict[str, Any]) -> dict[str, Any]:
    """What the database keeps of a job's result: of one with a type what it says itself."""
    return found.row() if isinstance(found, Part) else found


def main(folder: Path) -> int:
    """Run the task of the job in ``folder``; 0 when it succeeded or was stopped cleanly."""
    begin_log()
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    job = Job(folder, spec)
    os.chdir(folder)  # where no folder lies that a hub id `owner/name` could name
    signal.signal(signal.SIGTERM, job.request_stop)
    try:
        (folder / TEMPORARY).mkdir(exist_ok=True)
        tempfile.tempdir = str(folder / TEMPORARY)
        result = {"status": "succeeded", "result": _row(find_task(job.kind, spec.get("tasks"))(job))}
        job.send_early()
    except StoppedError as stopped:
        result = {"status": "stopped" if job.was_asked_to_stop() else "interrupted", "progress_text": str(stopped)}
    except BaseException as error:  # the edge of the process: everything becomes a result
        loosen_memory()
        log.exception("The job failed.")
        result = {"status": "failed", **explain(error, job.kind, Limits(**spec.get("limits", {})))}
    shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
    try:
        job.settle()
        write_when_there_is_room(folder / "result.json", result, job.was_asked_to_stop)
    except OSError:
        log.exception("The result could not be written.")
        return 3
    return 0 if result["status"] != "failed" else 2


def work(folder: Path) -> int:
    """The same in a process of its own, which lives no longer than the one that looks after it."""
    end_with_parent(started_in(folder).get("pid"))
    return main(folder)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
