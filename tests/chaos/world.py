"""A home with everything that runs over it, and who is who there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hydralora.files import COMPLETE, PART
from jobs.home import Home
from jobs.runner.cgroup import end_group, groups_of
from jobs.runner.ownership import started_in
from jobs.runner.processes import Identity, is_alive
from jobs.runner.service import holder, is_running
from jobs.store.records import Job
from jobs.store.store import Store
from jobs.store.tables import RunRow

PROJECT = Path(__file__).resolve().parents[2]
WORDS = ("--tasks", "tests.chaos.arithmetic", "--executor", "spawn")
STEPS = 40
CLOCK_VARIABLE = "HYDRA_STUDIO_CHAOS_CLOCK"  # of the environment: the file with the step of the clock in seconds


class World:
    """A home where the little training runs.

    Args:
        environment: Variables of all its processes besides ours.
        words: What its workers are started with.
    """

    def __init__(self, root: Path, environment: dict[str, str] | None = None, words: tuple[str, ...] = WORDS) -> None:
        self.home, self.words = Home(root), words
        self.store = Store(self.home)
        self.environment = {**os.environ, "PYTHONPATH": str(PROJECT), **(environment or {})}
        self.step = 0.0  # of its clock, in seconds
        self.web: subprocess.Popen[bytes] | None = None

    # What runs

    def open(self) -> None:
        """Start the web process, which keeps a worker, and wait for that."""
        until(self._comes, 90, "no worker came")

    def _comes(self) -> bool:
        if self.web is None or self.web.poll() is not None:
            self.web = self.start_web()
        return is_running(self.home)

    def start_web(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.keeper", str(self.home.root), *self.words]
        log = (self.home.root / "web.log").open("ab")
        with log:
            return subprocess.Popen(command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log)

    def begin(self, seed: int, **payload: Any) -> Job:
        """Queue a training."""
        from tests.jobs.test_worker import make_run

        run = make_run(self.store)
        job = self.store.queue.submit(
            "train", {"run_id": run, "seed": seed, "steps": STEPS, **payload}, run_id=run, max_attempts=6
        )
        with self.store._rows.writing() as session:
            row = session.get_one(RunRow, run)
            row.job_id, row.config = job.id, {"method": "lora", "base": "starter"}
        return job

    def set_clock(self, step: float) -> None:
        """Set the clock of all processes of this world by so many seconds from what it is."""
        self.step = step
        if CLOCK_VARIABLE in self.environment:
            Path(self.environment[CLOCK_VARIABLE]).write_text(f"{step:.0f}")

    def close(self) -> None:
        """End everything that works on this home."""
        if self.web is not None:
            self.web.kill()
            self.web.wait()
        for _ in range(5):
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.1)
        for group, _, _ in groups_of(self.home.root):
            end_group(group)

    def crash_database(self) -> None:
        """Kill the server of the database; a file has none."""

    def mend_database(self) -> None:
        """Start it again where it was killed."""

    # Who is who

    def processes(self) -> list[psutil.Process]:
        """Every living process of this home, with what it has started; not ourselves."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter(["cmdline", "status"]):
            if str(self.home.root) in " ".join(process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    found |= {one.pid: one for one in (process, *process.children(recursive=True))}
        return [one for one in found.values() if one.pid != os.getpid() and _lives(one)]

    def attempts_alive(self, job: Job) -> list[int]:
        """Attempts at a job that something works on."""
        folders, worked_on = self.home.attempts(job.id).glob("*"), self._worked_on()
        return sorted(int(one.name) for one in folders if str(one) in worked_on or is_alive(started_in(one)))

    def _worked_on(self) -> set[str]:
        """Folders of attempts whose work is done by some process, also where what looked after it has died."""
        words = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return {line[3] for line in words if line[1:3] == ["-m", "jobs.runner.child"] and len(line) > 3}

    def victims(self, job: Job) -> dict[str, int]:
        """Pids by what they are to the job, of those that live."""
        found = {"web": self.web.pid if self.web and self.web.poll() is None else 0, "worker": _pid(holder(self.home))}
        for name, one in (("reaper", job), ("server", self._server())):
            if one is not None:
                found[name] = _pid(started_in(self.home.job(one.id, self.store.queue.get(one.id).attempt)))
        with suppress(psutil.NoSuchProcess):
            found["job"] = next((child.pid for child in psutil.Process(found["reaper"]).children()), 0)
        return {name: pid for name, pid in found.items() if pid}

    def _server(self) -> Job | None:
        open_ = [job for job in self.store.queue.jobs(kind="serve", limit=5) if not job.is_finished]
        return open_[0] if open_ else None

    # Where a training is

    def moment(self, job: Job, name: str) -> bool:
        """Whether the training is at such a moment now."""
        run, folders = self.home.run(job.run_id or 0), list(self.home.attempts(job.id).glob("*"))
        if name == "start":
            return any(started_in(folder) for folder in folders)
        if name == "checkpoint":
            return any(not (place / COMPLETE).exists() for place in (run / "checkpoints").glob("checkpoint-*"))
        if name == "save":
            return any(list((folder / "out").glob(f"*{PART}")) for folder in folders)
        return any((folder / "result.json").exists() for folder in folders)  # the commit


def kill(pid: int) -> None:
    """End a process at once."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_dead(pids: Iterable[int]) -> None:
    """Wait for processes that were killed: each goes on for a moment, and holds what it held."""
    for pid in pids:
        until(lambda pid=pid: _is_dead(pid), 30, f"process {pid} outlived a kill")  # type: ignore[misc]


def _is_dead(pid: int) -> bool:
    """Also where it still waits for its parent, once the last of its threads has gone, which hold what it held."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and len(list(Path(f"/proc/{pid}/task").iterdir())) < 2
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def until(look: Callable[[], Any], seconds: float, error: str) -> Any:
    """The first true value of ``look()``.

    Raises:
        AssertionError: With ``error``, when none comes.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{error} within {seconds:.0f} s")
        time.sleep(0.02)
    return found


def _pid(who: Identity) -> int:
    return int(who["pid"]) if is_alive(who) else 0


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
