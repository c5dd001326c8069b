"""Processes: who they are, whether they live, and how a whole group is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

Identity = dict[str, Any]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux's prctl


def host_name() -> str:
    """This machine, and this boot of it: a pid means nothing elsewhere."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    mark = boot.read_text().strip()[:8] if boot.exists() else str(int(psutil.boot_time()))
    return f"{socket.gethostname()}/{mark}"


def boot_of(host: str) -> str:
    """The boot in a name that ``host_name`` gave."""
    return host.rpartition("/")[2]


def identity(pid: int | None = None) -> Identity:
    """What tells a process from a later one with the same number: pid, start and boot.

    The start is counted in ticks since the boot, where the system tells them: a time of day moves with the clock.
    """
    process = psutil.Process(pid)
    return {
        "pid": process.pid,
        "created": process.create_time(),
        "ticks": _start_ticks(process.pid),
        "boot": boot_of(host_name()),
    }


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])  # field 22; the name before may hold blanks


def _is_same(process: psutil.Process, who: Identity) -> bool:
    if who.get("ticks") is None:  # stored by an earlier version
        return abs(process.create_time() - float(who["created"])) < 0.02
    return bool(who["boot"] == boot_of(host_name()) and who["ticks"] == _start_ticks(process.pid))


def start_detached(
    command: list[str], log: Path, cwd: Path, environment: dict[str, str], told: bytes = b""
) -> subprocess.Popen[bytes]:
    """Start a process that outlives us, in a session of its own; what it prints is added to ``log``.

    Args:
        told: What it reads from its standard input: at most a page, which no other process sees.

    Raises:
        OSError: When the process or the log cannot be made.
    """
    with log.open("ab") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if told else subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            cwd=cwd,
            env=environment,
        )
    if child.stdin is not None:
        with suppress(BrokenPipeError), child.stdin as pipe:  # it has died already, which is told elsewhere
            pipe.write(told)
    return child


def adopt_orphans_of_ours() -> None:
    """From now on what our children leave behind is our child, and not the first process's: Linux alone can."""
    _control(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int | None = None) -> None:
    """Have this process killed as soon as the one that started it ends; at once where it has ended already."""
    parent = parent or os.getppid()
    _control(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()  # for other systems


def die_with_parent() -> None:
    """Have this process, whatever it becomes, killed as soon as the thread that started it ends: Linux alone can."""
    _control(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def is_alive(who: Identity | None) -> bool:
    """Whether exactly this process still runs; a zombie has ended."""
    if not who:
        return False
    try:
        process = psutil.Process(who["pid"])
        return _is_same(process, who) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(who: Identity) -> list[Identity]:
    """A process, all its descendants, also those that left its session, and what is left of its session without it."""
    if not who:
        return []
    if not is_alive(who):
        return _left_of_session(who)
    try:
        members = [psutil.Process(who["pid"]), *psutil.Process(who["pid"]).children(recursive=True)]
    except psutil.NoSuchProcess:
        return _left_of_session(who)
    return [member for process in members for member in _identities(process.pid)]


def _left_of_session(who: Identity) -> list[Identity]:
    """What lives in the session of a leader that has died, with their descendants.

    A session keeps its number from every new process, so whatever has it began after that leader; where another
    process has the number as its pid, nothing was left.
    """
    leader, ticks = who["pid"], who.get("ticks")
    if ticks is None or who["boot"] != boot_of(host_name()) or _is_another(who):
        return []
    found: dict[int, Identity] = {}
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and (_start_ticks(pid) or 0) >= ticks:
                members = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
                found |= {member: one for member in members for one in _identities(member)}
    return [member for member in found.values() if is_alive(member)]


def _is_another(who: Identity) -> bool:
    """Whether its number belongs to another process by now; its own zombie is itself."""
    now = _start_ticks(who["pid"])
    return now is not None and now != who["ticks"]


def _identities(pid: int) -> list[Identity]:
    """The identity of a process, or nothing where it has gone."""
    try:
        return [identity(pid)]
    except psutil.NoSuchProcess:
        return []


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
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(is_alive(member) for member in members):
        time.sleep(0.02)
