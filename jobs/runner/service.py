"""One worker a home: the lock that it holds, which version it is of, and how one is started, stopped and replaced."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from hydralora.errors import UserError
from jobs.database_file import known_revisions
from jobs.home import Home
from jobs.runner.environment import PROJECT
from jobs.runner.processes import Identity, identity, is_alive, start_detached

log = logging.getLogger(__name__)
END_SECONDS = 20.0  # for a worker to finish its round; its jobs go on
START_SECONDS = 60.0
_begun: dict[str, tuple[subprocess.Popen[bytes], float]] = {}  # the last worker started here for a home, and when
LOOK_SECONDS = 10.0  # that a reader may take to make states true (see ``jobs.runner.reconcile``)


@cache
def own_version() -> str:
    """This program's version, and the newest schema of the database that it knows: ``0.1.0+0015``."""
    try:
        number = version("hydra-studio")
    except PackageNotFoundError:  # a checkout
        number = "0"
    return f"{number}+{max(known_revisions())}"


def is_older(one: str, other: str) -> bool:
    """Whether a version is older than another; one without a name is older than all."""
    return _parts(one) < _parts(other)


def _parts(text: str) -> tuple[str, list[int]]:
    number, _, revision = text.partition("+")
    return revision, [int(part) for part in number.split(".") if part.isdecimal()]


def hold_lock(home: Home) -> IO[str] | None:
    """The lock that makes a worker the only one of its home on this machine; None when another has it."""
    file = (home.machine / "worker.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def wait_for_lock(home: Home) -> IO[str] | None:
    """The lock for a worker that begins; somebody who only looks may hold it for a while. None when a worker has it."""
    deadline = time.monotonic() + LOOK_SECONDS
    while (lock := hold_lock(home)) is None:
        if is_alive(holder(home)) or time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    return lock


def sign_lock(lock: IO[str]) -> None:
    """Write into the lock who holds it, for those who want to end or replace it."""
    lock.truncate(0)
    lock.write(json.dumps({**identity(), "version": own_version()}))
    lock.flush()


def is_running(home: Home) -> bool:
    """Whether some worker holds the lock of this home."""
    lock = hold_lock(home)
    if lock is None:
        return True
    lock.close()
    return False


def holder(home: Home) -> Identity:
    """Who holds the lock, with its ``version``; empty where it has not said so, as a worker of an earlier version."""
    try:
        found = json.loads((home.machine / "worker.lock").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}


def start_worker(home: Home, *words: str) -> None:
    """Start a worker that outlives us, unless one is running; ``words`` are more of its command line.

    One of an older version is asked to end first, and its jobs are adopted by the new one.
    """
    home.no_worker.unlink(missing_ok=True)
    if _is_beginning(home):
        return
    if is_running(home):
        if not is_older(holder(home).get("version", ""), own_version()):
            return
        log.warning("The worker of this home is of an older version; another one takes over.")
        with suppress(UserError):  # it has not said who it is: it ends by itself when the database has a newer schema
            end_worker(home)
        if is_running(home):
            return
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "jobs.runner.worker", "--home", str(home.root), *words]
    child = start_detached(command, home.machine / "worker.log", home.machine, environment)
    _begun[str(home.machine)] = child, time.monotonic()


def _is_beginning(home: Home) -> bool:
    """Whether a worker that was started here is still loading; on a busy machine that takes a while."""
    child, since = _begun.get(str(home.machine), (None, 0.0))
    is_young = time.monotonic() - since < START_SECONDS
    return child is not None and is_young and child.poll() is None and not is_running(home)


def keep_worker(home: Home, *words: str) -> None:
    """Start a worker where none runs and nobody has stopped it; called again and again, so trouble may pass."""
    try:
        if not home.no_worker.exists():
            start_worker(home, *words)
    except OSError as error:  # no descriptor, process or room is left now
        log.warning("No worker could be started: %s", error)


def stop_worker(home: Home) -> bool:
    """End the worker of this home, until one is started again; its jobs go on. False when none runs.

    Raises:
        UserError: When it does not end.
    """
    home.no_worker.touch()
    if not is_running(home):
        return False
    end_worker(home)
    return True


def end_worker(home: Home) -> None:
    """Ask the worker of this home to end, and wait until it has.

    Raises:
        UserError: When it does not end, or has not said who it is.
    """
    who = holder(home)
    if not is_alive(who):
        raise UserError(
            f"The worker of {home.root} is of an earlier version and has not said who it is. End the process "
            "`jobs.runner.worker` of this folder; its jobs go on."
        )
    with suppress(ProcessLookupError):
        os.kill(who["pid"], signal.SIGTERM)
    wait_until(lambda: not is_running(home), END_SECONDS, f"The worker (process {who['pid']}) does not end.")


def wait_until(is_so: Any, seconds: float, error: str) -> None:
    """Wait for something.

    Raises:
        UserError: With ``error``, when it does not come.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise UserError(f"{error} Look into worker.log of the home.")
        time.sleep(0.1)
