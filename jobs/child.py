"""One attempt at one job, in a process of its own: `python -m jobs.child FOLDER`.

Reads ``spec.json``, runs the task, and writes ``result.json`` at the end. It knows no database:
progress, metrics and result are files, so a hiccup of the database never stops training.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError, UserError
from jobs.home import Home

PROGRESS_SECONDS = 0.3  # between two writes of progress.json


class Job:
    """What a task sees of its job: payload, home, and ways to report."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self.folder = folder
        self.kind: str = spec["kind"]
        self.payload: dict[str, Any] = spec["payload"]
        self.home = Home(spec["home"])
        self._stop = threading.Event()
        self._last_progress = 0.0
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")

    def request_stop(self, *_: object) -> None:
        """Called by SIGTERM."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether the user asked for a stop."""
        return self._stop.is_set() or (self.folder / "stop").exists()

    def report(self, share: float, text: str) -> None:
        """Say how far the job is (0 to 1) and what it is doing."""
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_SECONDS and share < 1.0:
            return
        self._last_progress = now
        print(f"{time.strftime('%H:%M:%S')}  {share:4.0%}  {text}", flush=True)
        write_json(self.folder / "progress.json", {"share": share, "text": text})

    def step(self, step: int, values: dict[str, Any]) -> None:
        """Record the numbers of one step of a run; one whole line per step."""
        line = json.dumps({"run_id": self.payload["run_id"], "step": step, "values": values})
        self._metrics.write(line + "\n")
        self._metrics.flush()


def write_json(path: Path, value: Any) -> None:
    """Write aside, then rename."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    os.replace(aside, path)


def explain(error: BaseException) -> dict[str, str]:
    """An error as kind and plain sentence: what happened, and the way out."""
    text = str(error)
    if isinstance(error, UserError):
        return {"error_kind": "user", "error": text}
    if (
        isinstance(error, MemoryError)
        or "out of memory" in text.lower()
        or ("alloc" in text.lower() and "memory" in text)
    ):
        return {"error_kind": "memory", "error": "The memory did not suffice. Halve `batch_size` (and double "
                "`accumulation` to keep the same training), shorten `max_length`, or choose a smaller base."}  # fmt: skip
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return {"error_kind": "disk", "error": "The disk is full; nothing half-written was kept. Free some space "
                "(old runs and corpora can be deleted), then resume."}  # fmt: skip
    if "No space left on device" in text or "File too large" in text:
        return {"error_kind": "disk", "error": "The disk is full; nothing half-written was kept. Free some space "
                "(old runs and corpora can be deleted), then resume."}  # fmt: skip
    last = (text.strip().splitlines() or [""])[0][:300]
    return {"error_kind": "bug", "error": f"Something unexpected failed: {type(error).__name__}: {last} "
            "The log holds the details."}  # fmt: skip


def main(folder: Path) -> int:
    """Run the task of the job in ``folder``; 0 when it succeeded or was stopped cleanly."""
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    job = Job(folder, spec)
    signal.signal(signal.SIGTERM, job.request_stop)
    try:
        tasks = importlib.import_module(spec.get("tasks", "jobs.tasks"))
        result = {"status": "succeeded", "result": tasks.TASKS[job.kind](job)}
    except StoppedError as stopped:
        result = {"status": "stopped", "progress_text": str(stopped)}
    except BaseException as error:  # the edge of the process: everything becomes a result
        traceback.print_exc()
        result = {"status": "failed", **explain(error)}
    try:
        write_json(folder / "result.json", result)
    except OSError:
        traceback.print_exc()
        return 3
    return 0 if result["status"] != "failed" else 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
