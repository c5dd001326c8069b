"""How an attempt at a job is carried out. The worker claims, leases, adopts and stops jobs; an executor starts,
watches and ends what works on them, on this machine or elsewhere.

Both meet in the attempt's folder: the worker writes ``spec.json`` and, to stop, ``stop``; whoever works on it writes
``started.json`` before any work, ``progress.json``, ``metrics.jsonl``, ``result.json``, and at the very end
``exit.json``, and renews the lease of the attempt meanwhile (``jobs.runner.lease``). To add an executor, write a
class with these methods in a file beside ``local.py`` and put it into ``EXECUTORS``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.runner.executors.local import LocalExecutor

Handle = dict[str, Any]  # finds a started attempt again, also for a later worker; it is stored with the job as JSON


class Executor(Protocol):
    """Starts, watches and ends attempts at jobs."""

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Whether an attempt at a job of this kind may be started now; what waits is asked for again soon."""

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        """Begin the attempt whose ``spec.json`` lies in ``folder``; ``gpu`` is the one that it may see, by its uuid.

        Raises:
            UserError: When a job of this kind cannot run here.
            OSError: When nothing could be started.
        """

    def is_alive(self, handle: Handle) -> bool:
        """Whether something still works on the attempt."""

    def members(self, handle: Handle) -> list[Handle]:
        """Everything that belongs to the attempt at this moment, itself first."""

    def ask_to_end(self, handle: Handle) -> None:
        """Ask politely; the attempt may take its kind's grace to save its state."""

    def kill(self, members: list[Handle]) -> None:
        """End all of ``members`` that still live, and wait until they are gone."""

    def collect(self, handle: Handle) -> None:
        """Give back what was kept of an attempt that has ended."""


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "spawn": partial(LocalExecutor, forks=False),  # the same, each process begun from nothing
}


def find_executor(name: str) -> Executor:
    """A new executor of this name.

    Raises:
        UserError: When there is none.
    """
    if name not in EXECUTORS:
        raise UserError(f"There is no executor called {shown(name)}. Choose one of: {', '.join(EXECUTORS)}.")
    return EXECUTORS[name]()
