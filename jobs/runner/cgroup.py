"""Control groups of Linux (version 2): the processes of an attempt, also those that have left its session, are ended by
one write into its group.

A group is made below the one that its maker is in, so what holds for that (Slurm's bounds, a service's) holds for it
too. Where this account may make none (no Linux, version 1 alone, a tree that was not given to it) there is none.
https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

PREFIX = "hydra-studio-"
SWITCH = "HYDRA_STUDIO_CGROUPS"  # of the environment: "off" where none shall be made
PROCESSES, KILL, EVENTS = "cgroup.procs", "cgroup.kill", "cgroup.events"
END_SECONDS = 5.0  # for what was killed to be gone
LOOK_SECONDS = 0.02
Started = TypeVar("Started")


def make_group(folder: Path) -> Path | None:
    """A group for the attempt in ``folder``, empty, or None where there can be none."""
    above = own_group()
    if above is None or os.environ.get(SWITCH) == "off":
        return None
    group = above / name_of(folder)
    try:
        group.mkdir(exist_ok=True)
        _move_to(group)
        _move_to(above)
    except OSError:
        remove_group(group)
        return None
    return group


def name_of(folder: Path) -> str:
    """Of the group of an attempt: its home, job and number."""
    return f"{_beginning(folder.parents[2])}{folder.parent.name}-{folder.name}"


def _beginning(home: Path) -> str:
    return f"{PREFIX}{hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]}-"


def start_in(group: Path | None, start: Callable[[], Started]) -> Started:
    """Start a process that is in the group from its first moment; we are there ourselves meanwhile."""
    above = own_group()
    if group is None or above is None:
        return start()
    _move_to(group)
    try:
        return start()
    finally:
        _move_to(above)


def end_group(group: Path | None) -> bool:
    """Kill all that is in a group and remove it; whether it is gone."""
    if group is None:
        return True
    deadline = time.monotonic() + END_SECONDS
    while _is_populated(group) and time.monotonic() < deadline:
        _kill(group)
        time.sleep(LOOK_SECONDS)
    return remove_group(group)


def _kill(group: Path) -> None:
    try:
        (group / KILL).write_text("1")
    except OSError:  # before Linux 5.14; one that is started meanwhile is seen at the next look
        for pid in processes_of(group):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def processes_of(group: Path) -> list[int]:
    """Pids of what is in a group, and in groups below it."""
    found: list[int] = []
    for place in group.rglob(PROCESSES):
        with suppress(OSError):
            found += [int(line) for line in place.read_text().split()]
    return found


def remove_group(group: Path) -> bool:
    """Remove a group in which nothing lives, with those below it; whether it is gone."""
    for place, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(place)
    return not group.exists()


def groups_of(home: Path) -> Iterator[tuple[Path, int, int]]:
    """The groups of a home on this machine, each with job and attempt."""
    beginning = _beginning(home)
    for place, names, _ in os.walk(_mount() or ""):
        for name in (one for one in names if one.startswith(beginning)):
            job, _, attempt = name.removeprefix(beginning).partition("-")
            if job.isdecimal() and attempt.isdecimal():
                yield Path(place, name), int(job), int(attempt)


def own_group() -> Path | None:
    """The folder of the group that this process is in; None where there are none of version 2."""
    mount = _mount()
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    (inside,) = [line.removeprefix("0::") for line in lines if line.startswith("0::")] or [""]
    is_seen = inside.startswith("/") and ".." not in inside.split("/")  # not above what this container is shown
    found = mount / inside.lstrip("/") if mount is not None and is_seen else None
    return found if found is not None and found.is_dir() else None


def _mount() -> Path | None:
    """Where the tree of groups of version 2 lies."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:  # ... root place options ... - kind source more
        words, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and words.split()[3] == "/":
            return Path(words.split()[4])
    return None


def _move_to(group: Path) -> None:
    (group / PROCESSES).write_text("0")  # whoever writes it


def _is_populated(group: Path) -> bool:
    try:
        return "populated 1" in (group / EVENTS).read_text()
    except OSError:
        return False
