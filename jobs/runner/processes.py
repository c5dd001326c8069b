"""Processes: who they are, whether they live, and how a whole group is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

Identity = dict[str, Any]


def host_name() -> str:
    """This machine, and this boot of it: a pid means nothing elsewhere."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    mark = boot.read_text().strip()[:8] if boot.exists() else str(int(psutil.boot_time()))
    return f"{socket.gethostname()}/{mark}"


def boot_of(host: str) -> str:
    """The boot in a name that ``host_name`` gave."""
    return host.rpartition("/")[2]


def identity(pid: int | None = None) -> Identity:
    """What tells a process from a later one with the same number: pid and start time."""
    process = psutil.Process(pid)
    return {"pid": process.pid, "created": process.create_time()}


def start_detached(command: list[str], log: Path, cwd: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that outlives us, in a session of its own; what it prints is added to ``log``.

    Raises:
        OSError: When the process or the log cannot be made.
    """
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            cwd=cwd,
            env=environment,
        )


def is_alive(who: Identity | None) -> bool:
    """Whether exactly this process still runs; a zombie has ended."""
    if not who:
        return False
    try:
        process = psutil.Process(who["pid"])
        same = abs(process.create_time() - who["created"]) < 0.02
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(who: Identity) -> list[Identity]:
    """A process and all its descendants, also those that left its session."""
    if not is_alive(who):
        return []
    try:
        members = [psutil.Process(who["pid"]), *psutil.Process(who["pid"]).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    found = []
    for member in members:
        with suppress(psutil.NoSuchProcess):
            found.append({"pid": member.pid, "created": member.create_time()})
    return found


def ask_to_end(who: Identity) -> None:
    """Send TERM to the whole process group of ``who``."""
    if is_alive(who):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(who["pid"], signal.SIGTERM)


def kill(members: list[Identity]) -> None:
    """Send KILL to each process that is still the same one, then wait until all are gone."""
    for member in members:
        if is_alive(member):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member["pid"], signal.SIGKILL)
    deadline = time.time() + 5
    while time.time() < deadline and any(is_alive(member) for member in members):
        time.sleep(0.02)
