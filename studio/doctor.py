"""What is wrong with this installation, and how to mend it. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import text

from hydralora.bases.folder import STARTER
from hydralora.errors import UserError
from jobs.artefact_choice import check_artefacts
from jobs.home import Home
from jobs.runner.cgroup import end_group, processes_of
from jobs.runner.choice import KEY, Choice
from jobs.runner.executors import find_executor
from jobs.runner.leftovers import left_groups
from jobs.runner.reconcile import reconcile
from jobs.store.clock import FAR_APART_SECONDS, clock_offset
from jobs.store.database import check_server
from jobs.store.store import Store
from jobs.sweeping import find_leftovers, largest, sweep

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "scikit-learn",
    "umap-learn",
    "gradio",
    "sqlalchemy",
    "plotly",
)
DEVICE_PROBE = (
    "import torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
    "print('; '.join(torch.cuda.get_device_name(i) for i in range(n)) or f'CPU, {torch.get_num_threads()} threads')"
)
MOST_NAMED = 5
ENOUGH_DISK, ENOUGH_MEMORY = 2.0, 2.0  # GB


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    way_out: str = ""


def examine(home: Path | None, port: int) -> list[Finding]:
    """Look at everything; a check that breaks is itself a finding."""
    findings = [_python(), *(_package(name) for name in PACKAGES), _device(), _starter(), _port(port), _memory()]
    try:
        check_server()
    except UserError as error:  # which says the way out itself, as the one below
        return [*findings, Finding("database", False, str(error))]  # and no folder is made
    try:
        place = Home(home)
        return [*findings, _folder(place), _disk(place), *_database(place)]
    except UserError as error:
        return [*findings, Finding("folder", False, str(error))]


def _python() -> Finding:
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding(
        "python",
        fits,
        f"{platform.python_version()} on {platform.system()}",
        "" if fits else "Use Python 3.11 or 3.12.",
    )


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed", "Run `make run`, or pip install -r requirements.txt.")


def _device() -> Finding:
    try:
        answer = subprocess.run([sys.executable, "-c", DEVICE_PROBE], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return Finding("device", False, "torch did not load within two minutes", "Close other programs and try again.")
    if answer.returncode:
        return Finding(
            "device",
            False,
            (answer.stderr.strip().splitlines() or ["torch fails"])[-1],
            "Install the packages again: make clean, make run.",
        )
    return Finding("device", True, answer.stdout.strip())


def _starter() -> Finding:
    sums = STARTER / "SHA256SUMS"
    if not sums.exists():
        return Finding("starter model", False, "not there", "Get the project again, or make it: make starter.")
    for line in sums.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        file = STARTER / Path(name).name
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            return Finding(
                "starter model",
                False,
                f"{file.name} is not as shipped",
                "Get the project again, or make it: make starter.",
            )
    return Finding("starter model", True, "whole")


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                f"port {port}",
                False,
                error.strerror or str(error),
                "The studio may be running already; else `python app.py --port` another.",
            )
    return Finding(f"port {port}", True, "free")


def _folder(home: Home) -> Finding:
    private = not (home.root.stat().st_mode & 0o077) if os.name == "posix" else True
    way_out = "" if private else f"Others can read it: chmod 700 {home.root}"
    return Finding("folder", private, str(home.root), way_out)


def _disk(home: Home) -> Finding:
    free = shutil.disk_usage(home.root).free / 1e9
    return Finding(
        "disk",
        free > ENOUGH_DISK,
        f"{free:.1f} GB free",
        "" if free > ENOUGH_DISK else "Delete old runs, or choose another --home.",
    )


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    return Finding(
        "memory",
        free > ENOUGH_MEMORY,
        f"{free:.1f} GB free",
        "" if free > ENOUGH_MEMORY else "Close other programs; use a small base and batch.",
    )


def _database(home: Home) -> list[Finding]:
    try:
        store = Store(home)
    except UserError as error:
        return [Finding("database", False, str(error))]
    findings = []
    if store.engine.dialect.name == "sqlite":
        with store.engine.connect() as connection:
            state = str(connection.execute(text("PRAGMA quick_check")).scalar())
        findings.append(
            Finding("database", state == "ok", state, "" if state == "ok" else "Restore a copy of studio.db.")
        )
    else:
        findings += [Finding("database", True, store.engine.dialect.name), _clock(store)]
    reconcile(store)
    workers = store.workers.seen()
    words = f"{len(workers)} at work" if workers else "none; one starts with the studio or with a command that needs it"
    left = [*_artefacts(store), _leftovers(store), *_left_groups(store), *_largest(store)]
    return [*findings, Finding("worker", True, words), _executor(store), *left]


def _clock(store: Store) -> Finding:
    """Whether this machine's clock is the database's; leases are told by that one alone."""
    ahead = clock_offset(store.engine)
    if abs(ahead) < FAR_APART_SECONDS:
        return Finding("clock", True, f"{abs(ahead):.1f} s from the database's")
    words = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the database's"
    way_out = "No job is harmed, but times that are shown mislead: let both machines set their clocks by NTP."
    return Finding("clock", False, words, way_out)


def _executor(store: Store) -> Finding:
    """What carries training out, and whether it can be asked."""
    choice = Choice.load(store.settings.get(KEY))
    try:
        find_executor(choice, store.home.root).check()
    except UserError as error:
        return Finding("executor", False, choice.shown(), str(error))
    return Finding("executor", True, choice.shown())


def _artefacts(store: Store) -> list[Finding]:
    """Where finished folders are kept besides the home, if they are, and whether that can be used."""
    artefacts = store.home.artefacts
    if not artefacts.is_on:
        return []
    waiting = len(artefacts.waiting())
    words = f"{artefacts.url}; {waiting:,} folders wait for it" if waiting else artefacts.url
    try:
        check_artefacts(store.home.root, artefacts.url)
    except UserError as error:
        return [Finding("artefacts", False, words, str(error))]
    return [Finding("artefacts", True, words)]


def _leftovers(store: Store) -> Finding:
    found = find_leftovers(store)
    if not found:
        return Finding("leftovers", True, "none")
    names = ", ".join(str(one.path.relative_to(store.home.root)) for one in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED:,} more" if len(found) > MOST_NAMED else ""
    size = sum(one.size for one in found) / 1e6
    why = " and ".join(sorted({one.why for one in found}))
    return Finding(
        "leftovers",
        False,
        f"{len(found):,} of {size:,.1f} MB ({why}): {names}{more}",
        "Look at them, then delete them: `python -m studio doctor --sweep`.",
    )


def _left_groups(store: Store) -> list[Finding]:
    """Control groups in which no attempt works any more; nothing where there are none."""
    found = left_groups(store)
    if not found:
        return []
    processes = sum(len(processes_of(group)) for group in found)
    names = ", ".join(group.name for group in found[:MOST_NAMED])
    words = f"{len(found):,} of attempts that have ended, with {processes:,} processes: {names}"
    return [Finding("control groups", False, words, "End them: `python -m studio doctor --sweep`.")]


def sweep_all(store: Store) -> int:
    """Delete leftovers, and end what attempts that have ended left running; how many things are gone."""
    return sweep(find_leftovers(store)) + sum(end_group(group) for group in left_groups(store))


def _largest(store: Store) -> list[Finding]:
    """What to delete, where the disk has little room."""
    if shutil.disk_usage(store.home.root).free / 1e9 > ENOUGH_DISK:
        return []
    words = ", ".join(f"{place} ({size / 1e6:,.1f} MB)" for place, size in largest(store))
    return [Finding("largest", True, words or "nothing of the studio")]
