"""Who works on an attempt, written in its folder before any work is done, so that no attempt has two owners unseen.

A worker may die before it has stored what it started. Two files settle who was first: the attempt's first process
writes ``started.json`` and then looks for ``ended``; a worker that gives the attempt up writes ``ended`` and then looks
for ``started.json``. Whatever the order, at least one of the two sees the other.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydralora.errors import StoppedError
from hydralora.files import write_json
from hydralora.progress import Progress
from jobs.runner.processes import Identity, host_name, identity

STARTED = "started.json"  # the attempt's first process
LOCK = "lock"  # in the folder of a run: held by whoever trains it, until its process has gone
WAIT_SECONDS = 0.2
ENDED = "ended"  # there once a worker has given the attempt up


def announce(folder: Path, group: Path | None = None) -> bool:
    """Write down that this process works on the attempt, and the control group of its work; whether it may."""
    more = {"group": str(group)} if group is not None else {}
    write_json(folder / STARTED, {**identity(), "host": host_name(), **more})
    return not (folder / ENDED).exists()


def started_in(folder: Path) -> Identity:
    """Who has announced itself in the folder of an attempt; nobody where no such file can be read."""
    try:
        found = json.loads((folder / STARTED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}


def give_up(folder: Path) -> None:
    """From now on nothing begins to work on the attempt."""
    if folder.is_dir():
        (folder / ENDED).touch()


@contextmanager
def alone_in(folder: Path, progress: Progress) -> Iterator[None]:
    """Be the only process that trains in ``folder``, and wait until that is so.

    The system gives the lock back when its holder dies, however it dies.

    Raises:
        StoppedError: When asked to stop meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        while not _is_taken(file.fileno()):
            progress.report(0.0, "Waiting for an earlier attempt that still works on this run")
            if progress.should_stop():
                raise StoppedError("Stopped before it went on; what it had kept is still there.")
            time.sleep(WAIT_SECONDS)
        yield


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
