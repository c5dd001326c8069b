"""How an attempt at a job is carried out. The worker claims, leases, adopts and stops jobs; an executor starts,
watches and ends what works on them, on this machine or elsewhere.

Both meet in the attempt's folder: the worker writes ``spec.json`` and, to stop, ``stop``; whoever works on it writes
``started.json`` before any work, ``progress.json``, ``metrics.jsonl``, ``log.txt``, ``result.json``, and at the very
end ``exit.json``, and renews the lease of the attempt meanwhile (``jobs.runner.lease``). To add an executor, write a
class with these methods in a file beside ``local.py`` and put it into ``EXECUTORS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.runner.choice import Choice, Handle
from jobs.runner.executors.local import LocalExecutor
from jobs.runner.executors.ray import RayExecutor
from jobs.runner.executors.slurm import SlurmExecutor

__all__ = ["EXECUTORS", "Choice", "Executor", "Handle", "find_executor"]


class Executor(Protocol):
    """Starts, watches and ends attempts at jobs: five verbs, and three questions before the first of them."""

    def check(self) -> None:
        """See whether it can be used; nothing is started.

        Raises:
            UserError: When it cannot, with the way out.
        """

    def slots(self, kind: str) -> int | None:
        """How many attempts at jobs of this kind it takes at once; None where they work on this machine, whose worker
        knows that itself."""

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Whether an attempt at a job of this kind may be started now; what waits is asked for again soon."""

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        """Begin the attempt whose ``spec.json`` lies in ``folder``; ``gpu`` is the one that it may see, by its uuid.

        Raises:
            UnreachableError: When it cannot be asked now.
            UserError: When a job of this kind cannot run here.
            OSError: When nothing could be started.
        """

    def is_alive(self, handle: Handle) -> bool:
        """Whether something works on the attempt, or will.

        Raises:
            UnreachableError: When it cannot be asked now: the attempt may live.
        """

    def stop(self, handle: Handle, *, at_once: bool = False) -> None:
        """Ask politely: the attempt may take its kind's grace to save its state. ``at_once`` ends all that belongs to
        it, whatever it started, and whatever was there when it was asked politely."""

    def logs(self, handle: Handle) -> str:
        """What there is to read of the attempt besides its ``log.txt``: what the engine itself says of it."""

    def collect(self, handle: Handle) -> None:
        """Give back what was kept of an attempt that has ended."""


EXECUTORS: dict[str, Callable[[Choice, Path], Executor]] = {
    "local": lambda choice, home: LocalExecutor(processes=choice.processes),
    "spawn": lambda choice, home: LocalExecutor(
        forks=False, processes=choice.processes
    ),  # the same, each process begun from nothing
    "ray": RayExecutor,
    "slurm": SlurmExecutor,
}


def find_executor(choice: Choice, home: Path) -> Executor:
    """A new executor of the chosen name, for a home.

    Raises:
        UserError: When there is none.
    """
    if choice.executor not in EXECUTORS:
        raise UserError(f"There is no executor called {shown(choice.executor)}. Choose one of: {', '.join(EXECUTORS)}.")
    return EXECUTORS[choice.executor](choice, home)
