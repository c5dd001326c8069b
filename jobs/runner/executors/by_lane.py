"""Heavy jobs by the executor that was chosen, all others by processes of the worker's machine."""

from __future__ import annotations

from pathlib import Path

from jobs.kinds import KINDS
from jobs.runner.choice import KEY, Choice, Handle
from jobs.runner.executors import Executor, find_executor
from jobs.runner.service import end_worker, is_running, start_worker
from jobs.store.store import Store

HERE = ("local", "spawn")  # executors of the worker's own machine


class ByLane:
    """An executor of several: a job's lane says which begins it, a handle which one has.

    So attempts that were begun under another choice are looked after as well.
    """

    def __init__(self, choice: Choice, home: Path) -> None:
        self._choice, self._home = choice, home
        self._heavy = find_executor(choice, home)
        is_here = choice.executor in HERE  # one object then: who starts a process waits for it, and it forks from one
        self._near = self._heavy if is_here else find_executor(Choice(), home)
        self._known: dict[str, Executor] = {"local": self._near, choice.executor: self._heavy}

    def check(self) -> None:
        """Whether the chosen one can be used."""
        self._heavy.check()

    def slots(self, kind: str) -> int | None:
        """As many as the executor of its lane takes."""
        return self._of_kind(kind).slots(kind)

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Whether the executor of its lane is."""
        return self._of_kind(kind).is_ready(kind, cwd)

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        """Begin it by the executor of its lane."""
        return self._of_kind(kind).start(kind, folder, cwd, gpu)

    def is_alive(self, handle: Handle) -> bool:
        """As the executor of the handle says."""
        return self._of(handle).is_alive(handle)

    def stop(self, handle: Handle, *, at_once: bool = False) -> None:
        """By the executor of the handle."""
        self._of(handle).stop(handle, at_once=at_once)

    def logs(self, handle: Handle) -> str:
        """By the executor of the handle."""
        return self._of(handle).logs(handle)

    def collect(self, handle: Handle) -> None:
        """By the executor of the handle."""
        self._of(handle).collect(handle)

    def _of_kind(self, kind: str) -> Executor:
        return self._heavy if kind in KINDS and KINDS[kind].lane == "heavy" else self._near

    def _of(self, handle: Handle) -> Executor:
        name = handle.get("engine", "local")
        if name not in self._known:
            self._known[name] = find_executor(Choice(executor=name), self._home)
        return self._known[name]


def choose(store: Store, choice: Choice) -> None:
    """Have heavy jobs carried out so from now on; a worker that runs is replaced, and what works goes on.

    Raises:
        UserError: When the choice cannot be used; nothing has changed then.
    """
    find_executor(choice, store.home.root).check()
    store.settings.set(KEY, choice.dump())
    if is_running(store.home):
        end_worker(store.home)
        start_worker(store.home)
