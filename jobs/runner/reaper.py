"""Runs one process within limits and leaves its end behind: `python -m jobs.runner.reaper FOLDER COMMAND ...`.

A restarted worker cannot wait for a process that is not its child. So this small parent stays,
ignores TERM (which reaches its child through the process group), renews the lease of the attempt, and writes
``exit.json`` when the child has ended and nothing of it is left. No ``exit.json`` and no process means the whole group
was killed: the child ends with its parent.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from jobs.home import private_files
from jobs.runner.cgroup import end_group, make_group, start_in
from jobs.runner.lease import Held, Keeper, Lease
from jobs.runner.limits import Limits, impose
from jobs.runner.logs import begin_log, cap_log
from jobs.runner.ownership import announce
from jobs.runner.processes import adopt_orphans_of_ours, family, identity, kill
from jobs.runner.remains import MARK
from jobs.runner.room import write_when_there_is_room

log = logging.getLogger("jobs.runner.reaper")  # under its own name also where it runs as a program
LOG_SECONDS = 5.0  # between two looks at how long the log is
GRACE_SECONDS = 8.0  # to clean up after TERM, once the time is over


class Process(Protocol):
    """A process of ours: started as a program, or forked."""

    pid: int

    def wait(self) -> int:
        """Its return code, negative for the signal that ended it."""

    def terminate(self) -> None:
        """Send TERM."""


def reap(folder: Path, start: Callable[[], Process], limits: Limits, database: str = "") -> int:
    """Start a process within limits, keep its lease, wait for its end, and record return code, limit met, seconds and
    peak memory (bytes).

    Args:
        database: URL of a database that is not the home's own file, for the lease; the process is not told.
    """
    private_files()
    group = make_group(folder)
    lease = Lease(folder, database)
    if not announce(folder, group) or lease.renew() == Held.LOST:  # a worker has given it up before it began
        log.warning("This attempt is not the job's any more; it does not begin.")
        end_group(group)
        return 1
    adopt_orphans_of_ours()
    os.environ[MARK] = str(folder)
    impose(limits)
    began = time.time()
    child = start_in(group, start)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clock = _Clock(child, limits.wall)
    keeper = Keeper(lease, child.terminate, lambda: _end_family(child))
    log_keeper = _LogKeeper(folder / "log.txt")
    code = child.wait()
    keeper.stop()
    log_keeper.stop()
    met = "wall" if clock.stop() else "cpu" if code == -signal.SIGXCPU else None
    _end_rest()
    end_group(group)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    ended = {"code": code, "limit": met, "seconds": time.time() - began, "peak_bytes": peak}
    write_when_there_is_room(folder / "exit.json", ended)
    return code


def _end_family(child: Process) -> None:
    """End a process with all its descendants, where it has not ended already."""
    try:
        members = family(identity(child.pid))
    except psutil.NoSuchProcess:
        return
    kill(members)


def _end_rest() -> None:
    """End what the process has left behind: all of it is our child by now, or in our session."""
    me = os.getpid()
    kill([member for member in family(identity()) if member["pid"] != me])


class _Clock:
    """Ends a process with all its descendants when its time is over: TERM, and KILL after a grace."""

    def __init__(self, child: Process, seconds: float | None) -> None:
        self._child, self._ended, self._is_over = child, threading.Event(), False
        self._thread = threading.Thread(target=self._watch, args=(seconds,), daemon=True)
        self._thread.start()

    def _watch(self, seconds: float | None) -> None:
        if self._ended.wait(seconds):
            return
        try:
            members = family(identity(self._child.pid))
        except psutil.NoSuchProcess:  # it has ended this very moment
            return
        self._is_over = True
        self._child.terminate()
        self._ended.wait(GRACE_SECONDS)
        kill(members)

    def stop(self) -> bool:
        """Whether the time was over; waits until nothing is left then."""
        self._ended.set()
        self._thread.join()
        return self._is_over


class _LogKeeper:
    """Keeps a log within its bound while the work goes on."""

    def __init__(self, file: Path) -> None:
        self._file, self._over = file, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(LOG_SECONDS):
            try:
                cap_log(self._file)
            except OSError as error:  # the disk is full, say: later, perhaps
                log.warning("The log could not be shortened: %s", error.strerror)

    def stop(self) -> None:
        """The work has ended."""
        self._over.set()
        with suppress(OSError):
            cap_log(self._file)


def read_limits(folder: Path) -> Limits:
    """The limits of the attempt in ``folder``."""
    return Limits(**json.loads((folder / "spec.json").read_text("utf-8"))["limits"])


if __name__ == "__main__":
    begin_log()
    place, command, told = Path(sys.argv[1]), sys.argv[2:], sys.stdin.read()
    code = reap(place, lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL), read_limits(place), told)
    sys.exit(1 if code else 0)
