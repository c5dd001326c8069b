"""A home folder, a store over it, and real workers that are ended with everything they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import event

from jobs.home import Home
from jobs.runner.cgroup import end_group, groups_of
from jobs.store.attempts import Attempts
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.store import Store

PROJECT = Path(__file__).resolve().parents[2]
LITTLE = "tests.jobs.little_tasks"


def wait_for(look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of ``look()``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing came within {seconds:.0f} s")


@contextmanager
def counting(store: Store) -> Iterator[list[str]]:
    """The statements that go to the database meanwhile, each BEGIN among them."""
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def end_home(home: Home) -> None:
    """Kill every process that works on this folder, its children, and what of attempts lives besides."""
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(home.root) in " ".join(p.info["cmdline"] or ())]
    for process in [child for p in mine for child in (*p.children(recursive=True), p)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for group, _, _ in groups_of(home.root):
        end_group(group)


@pytest.fixture
def home(tmp_path: Path, database: str) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture
def queue(store: Store) -> Queue:
    return store.queue


@pytest.fixture
def attempts(store: Store) -> Attempts:
    return store.attempts


class Workshop:
    """Starts workers with the little tasks; ``submit`` queues one of them."""

    def __init__(self, home: Home, store: Store) -> None:
        self.home, self.store = home, store

    def start(self, executor: str = "spawn") -> subprocess.Popen[bytes]:  # no little task needs torch
        words = ["--home", str(self.home.root), "--tasks", LITTLE, "--executor", executor]
        command = [sys.executable, "-m", "jobs.runner.worker", *words]
        worker = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: any(w["process"]["pid"] == worker.pid for w in self.store.workers.seen()))
        return worker

    def submit(self, do: str, *, slow: bool = False, **payload: Any) -> Job:
        """Queue a little task; it runs as kind ``map`` (light) or ``train`` (heavy)."""
        kind = "train" if slow else "map"
        links = {"max_attempts": payload.pop("max_attempts", 2)}
        return self.store.queue.submit(kind, {"do": do, **payload}, **links)

    def ended(self, job: Job, seconds: float = 60.0) -> Job:
        wait_for(lambda: self.store.queue.get(job.id).is_finished, seconds)
        return self.store.queue.get(job.id)

    def running(self, job: Job) -> Job:
        """Wait until the task itself has begun (it says so)."""
        wait_for(lambda: self.store.queue.get(job.id).progress_text == "under way")
        return self.store.queue.get(job.id)


@pytest.fixture
def workshop(home: Home, store: Store) -> Iterator[Workshop]:
    yield Workshop(home, store)
    end_home(home)


def kill(worker: subprocess.Popen[bytes]) -> None:
    """SIGKILL, as the system's memory killer does."""
    worker.send_signal(signal.SIGKILL)
    worker.wait()
