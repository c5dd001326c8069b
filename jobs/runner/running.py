"""A job that a worker looks after, and the files in its folder that tell how it goes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydralora.errors import DamagedError
from hydralora.files import write_json
from jobs.home import Home
from jobs.runner.choice import HANDLE, Handle
from jobs.runner.limits import Limits, limits_of
from jobs.store.clock import LEASE_SECONDS
from jobs.store.metrics import Metrics, read_metrics
from jobs.store.records import Job

SPEC = "spec.json"
RESTARTED = "The machine was restarted."


@dataclass
class RunningJob:
    """One attempt under way.

    Args:
        handle: How its executor finds it.
        progress: What ``progress.json`` said when it was last passed on.
        stop_sent_at: When it was asked to end, in seconds of ``time.monotonic``.
        gone: What is told where its process is not there and has left no word.
        refused: Why the node that it was begun on cannot work on it.
        is_silent: Whether its lease is over, so that whatever worked on it has ended or will.
        rests_until: When it is looked after again, after trouble that may pass; in seconds of ``time.monotonic``.
    """

    job: Job
    folder: Path
    handle: Handle
    progress: dict[str, Any] = field(default_factory=dict)
    stop_sent_at: float | None = None
    rests_until: float = -math.inf
    gone: str = "Its process vanished."
    refused: str = ""
    is_silent: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether an engine has begun it, perhaps on another machine."""
        return "engine" in self.handle

    @property
    def gpu(self) -> str | None:
        """The uuid of the GPU that it was given, if any; stored with the job, for a later worker."""
        return self.handle.get("gpu")

    def new_progress(self) -> dict[str, Any]:
        """``{"share": 0 to 1, "text": ...}`` as written now, else as it was."""
        try:
            found = _read_json(self.folder / "progress.json")
        except DamagedError:  # it is not flushed, and the next one is soon there
            return self.progress
        return found if found and {"share", "text"} <= found.keys() else self.progress

    def new_metrics(self) -> Metrics:
        """Steps in the attempt's file beyond those that are stored."""
        return read_metrics(self.folder, self.job.payload.get("run_id"), self.job.metrics_offset)

    def result(self) -> dict[str, Any] | None:
        """What the task left at its end, if it came to one."""
        return _read_json(self.folder / "result.json", "status")

    def exit(self) -> dict[str, Any] | None:
        """How its process ended: ``code``, ``limit``, ``seconds``, ``peak_bytes``; None while it runs, or vanished."""
        return _read_json(self.folder / "exit.json", "code", "peak_bytes")

    def limits(self) -> Limits:
        """The limits that it was started with."""
        return Limits(**(_read_json(self.folder / SPEC) or {}).get("limits", {}))

    def ask_to_stop(self) -> None:
        """The file that a task looks for."""
        (self.folder / "stop").touch()


def write_spec(home: Home, job: Job, tasks: str | None, gpu: str | None = None) -> Path:
    """Make the folder of a new attempt with what its process needs to know, and give it.

    Args:
        tasks: A module that brings tasks of its own.
        gpu: The uuid of the GPU that it is given; a later worker reads it here where this one dies before it stores it.

    Raises:
        UserError: When the kind of job is not known.
        OSError: When the disk does not take it.
    """
    folder = home.job(job.id, job.attempt)
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "kind": job.kind,
        "payload": job.payload,
        "home": str(home.root),
        "machine": str(home.machine),
        "tasks": tasks,
        "limits": asdict(limits_of(job.kind)),
        "job": job.id,
        "attempt": job.attempt,
        "token": job.token,
        "lease_seconds": LEASE_SECONDS,
        "gpu": gpu,
    }
    write_json(folder / SPEC, spec)
    return folder


def gpu_of(folder: Path) -> str | None:
    """The uuid of the GPU that an attempt was given, by its folder."""
    try:
        found = (_read_json(folder / SPEC) or {}).get("gpu")
    except DamagedError:
        return None
    return found if isinstance(found, str) else None


def read_handle(folder: Path) -> Handle:
    """The handle of an attempt that an engine was asked to begin, by its folder; empty for one of this machine."""
    try:
        return _read_json(folder / HANDLE, "engine") or {}
    except DamagedError:
        return {}


def _read_json(path: Path, *wanted: str) -> dict[str, Any] | None:
    """What a file of an attempt holds; None where there is no such file.

    Raises:
        DamagedError: When it holds no JSON, or one of ``wanted`` is not in it.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path.name} of this attempt is damaged: it holds no JSON ({error}).") from error
    if not isinstance(found, dict) or not found.keys() >= set(wanted):
        raise DamagedError(f"{path.name} of this attempt is damaged: it does not say its {' and '.join(wanted)}.")
    return found
