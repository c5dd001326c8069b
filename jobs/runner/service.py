"""One worker a home: the lock that it holds, whether one runs, and how one is started."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Any

from jobs.home import Home
from jobs.runner.environment import PROJECT
from jobs.runner.processes import start_detached


def hold_lock(home: Home) -> Any | None:
    """The lock that makes a worker the only one of its home; None when another has it."""
    file = (home.root / "worker.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_running(home: Home) -> bool:
    """Whether some worker holds the lock of this home."""
    lock = hold_lock(home)
    if lock is None:
        return True
    lock.close()
    return False


def start_worker(home: Home, *words: str) -> None:
    """Start a worker that outlives us, unless one is running; ``words`` are more of its command line."""
    if is_running(home):
        return
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "jobs.runner.worker", "--home", str(home.root), *words]
    start_detached(command, home.root / "worker.log", home.root, environment)
