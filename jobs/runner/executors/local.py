"""Attempts as processes of this machine, each in a session of its own below a reaper."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from jobs.kinds import kind_of
from jobs.machine import look_at_gpus
from jobs.runner.environment import job_environment, other_database
from jobs.runner.forkserver import Forkserver
from jobs.runner.processes import Identity, ask_to_end, family, identity, is_alive, kill, start_detached
from jobs.runner.ranks import PROCESSES_VARIABLE

log = logging.getLogger(__name__)
ROUNDS_OF_KILLING = 5


class LocalExecutor:
    """A handle is the reaper's pid and start time; the reaper outlives the worker (see ``jobs.runner.reaper``).

    Args:
        forks: Whether attempts that need torch are forked from a process that has loaded it
            (see ``jobs.runner.forkserver``), where that is possible.
        processes: That train one run together, one a GPU where there are any.
    """

    def __init__(self, *, forks: bool = True, processes: int = 1) -> None:
        self.forks, self.processes = forks, processes
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # by pid; those of an earlier worker are not ours
        self._members: dict[int, list[Identity]] = {}  # by pid, those of attempts that were asked to end
        self._servers: dict[frozenset[tuple[str, str]], Forkserver] = {}  # by environment: secrets stay apart

    def check(self) -> None:
        """Nothing is needed."""

    def slots(self, kind: str) -> int | None:
        """As many as the worker finds right; of trainings by several processes as many as there are GPUs for."""
        if self.processes == 1 or kind_of(kind).lane != "heavy":
            return None
        return max(1, len(look_at_gpus()) // self.processes)

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Whether an attempt can begin now; otherwise what it is forked from is loading, which it would do itself."""
        if not self.forks or not kind_of(kind).needs_torch:
            return True
        environment = self._environment(kind)
        server = self._servers.get(frozenset(environment.items()))
        if server is None or (not server.is_alive() and server.was_ready):
            try:
                server = Forkserver(cwd, environment)
            except OSError as error:
                log.warning("Jobs start without what they could be forked from: %s", error)
                self.forks = False
                return True
            self._servers[frozenset(environment.items())] = server
        return not server.is_loading()

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Identity:
        """Start the reaper, which starts the job's process; what they print goes to ``log.txt``.

        Raises:
            UserError: When the kind is not known.
            OSError: When the process or the log cannot be made.
        """
        environment = self._environment(kind, gpu)
        server = self._servers.get(frozenset(environment.items()))
        if server is not None and kind_of(kind).needs_torch and server.is_ready():
            try:
                return server.fork(folder, cwd, environment, other_database())
            except OSError as error:
                log.warning("The job starts by itself: %s", error)
        python = [sys.executable, "-m"]
        command = [*python, "jobs.runner.reaper", str(folder), *python, "jobs.runner.child", str(folder)]
        child = start_detached(command, folder / "log.txt", cwd, environment, other_database().encode())
        self._children[child.pid] = child
        return identity(child.pid)

    def is_alive(self, handle: Identity) -> bool:
        """Whether the reaper runs; one of our own that has ended is waited for, so that no zombie stays."""
        child = self._child(handle)
        return child.poll() is None if child is not None else is_alive(handle)

    def stop(self, handle: Identity, *, at_once: bool = False) -> None:
        """TERM to the whole process group, which the reaper ignores; at once: KILL to the reaper, the job's process and
        all that they have started, also what has left the group since."""
        pid = handle.get("pid", 0)
        if not at_once:
            self._members[pid] = family(handle)
            ask_to_end(handle)
            return
        left = [*self._members.get(pid, []), *family(handle)]
        for _ in range(ROUNDS_OF_KILLING):  # one may have started another meanwhile
            if not left:
                return
            kill(left)
            left = family(handle)

    def logs(self, handle: Identity) -> str:
        """Nothing: all that is printed goes to ``log.txt``."""
        return ""

    def collect(self, handle: Identity) -> None:
        """Wait for a reaper of our own, which has written its last file."""
        child = self._child(handle)
        self._members.pop(handle.get("pid", 0), None)
        if child is not None:
            child.wait()
            del self._children[child.pid]

    def _environment(self, kind: str, gpu: str | None = None) -> dict[str, str]:
        return {**job_environment(kind, gpu=gpu), PROCESSES_VARIABLE: str(self.processes)}

    def _child(self, handle: Identity) -> subprocess.Popen[bytes] | None:
        return self._children.get(handle.get("pid", 0))
