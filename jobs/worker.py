"""The worker: claims jobs, runs each in its own process, and keeps their rows true.

`python -m jobs.worker --home FOLDER`. It outlives the web process, and its jobs outlive it: a
new worker adopts the processes it finds alive, reads the results of those that ended meanwhile,
and queues again what vanished.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydralora.errors import UserError
from jobs.home import Home
from jobs.processes import Identity, ask_to_end, family, host_name, identity, is_alive, kill
from jobs.records import Job
from jobs.status import JobStatus
from jobs.store import Store
from jobs.tour import Tour

POLL_SECONDS = 0.4
LEASE_RENEWAL_SECONDS = 10.0
SIGN_OF_LIFE_SECONDS = 4.0
TOUR_SECONDS = 1.0
GRACE_SECONDS = {"train": 60.0, "serve": 5.0}  # to save its state after TERM; others have 8
SLOTS = {"light": 1, "heavy": 1, "server": 1}
PROJECT = Path(__file__).resolve().parent.parent


@dataclass
class Held:
    """A job this worker looks after."""

    job: Job
    folder: Path
    process: Identity
    child: subprocess.Popen[bytes] | None
    renewed_at: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)
    members: list[Identity] = field(default_factory=list)
    told_at: float | None = None


class Worker:
    """One supervisor; ``turn`` does one round of everything."""

    def __init__(self, home: Home, *, store: Store | None = None, tasks: str = "jobs.tasks") -> None:
        self.home, self.tasks = home, tasks
        self.store = store or Store(home)
        self.host = host_name()
        me = identity()
        self.name = f"{self.host}:{me['pid']}:{me['created']:.2f}"
        self.process = me
        self.held: dict[int, Held] = {}
        self.signed_at = self.toured_at = 0.0
        self.ending = False

    def turn(self) -> None:
        """Adopt, watch, claim."""
        now = time.time()
        if now - self.signed_at > SIGN_OF_LIFE_SECONDS:
            self.store.queue.sign_in(self.name, self.host, self.process)
            self.signed_at = now
            self._adopt_orphans()
        for held in list(self.held.values()):
            self._watch(held)
        if now - self.toured_at > TOUR_SECONDS:
            self.toured_at = now
            Tour(self.store).advance()
        self._share_gpu()
        for lane, slots in SLOTS.items():
            while sum(h.job.lane == lane for h in self.held.values()) < slots:
                job = self.store.queue.claim(self.name, self.host, lane)
                if job is None:
                    break
                self._start(job)

    def _share_gpu(self) -> None:
        """Training goes before chat: while a heavy job runs or waits, the model server keeps off the GPU."""
        wanted = any(held.job.lane == "heavy" for held in self.held.values()) or self.store.queue.has_waiting("heavy")
        if wanted:
            self.home.make_room.touch()
        else:
            self.home.make_room.unlink(missing_ok=True)

    # Starting

    def _start(self, job: Job) -> None:
        folder = self.home.job(job.id, job.attempt)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            spec = {"kind": job.kind, "payload": job.payload, "home": str(self.home.root), "tasks": self.tasks}
            (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
            child = self._spawn(folder)
        except OSError as error:
            self.store.finish(job, JobStatus.FAILED, time.time(), error_kind="disk",
                              error=f"The job could not be started: {error}. Free disk space and try again.")  # fmt: skip
            return
        process = identity(child.pid)
        self.store.queue.renew(job, process=process)
        self.held[job.id] = Held(self.store.queue.get(job.id), folder, process, child, time.time())

    def _spawn(self, folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jobs.shim", str(folder), sys.executable, "-m", "jobs.child", str(folder)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                       "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE",
                       "PYTHONPATH": os.pathsep.join(
                           filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))}  # fmt: skip
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, close_fds=True, cwd=self.home.root, env=environment,
            )  # fmt: skip

    def _adopt_orphans(self) -> None:
        for job in self.store.queue.orphans(self.host, self.name):
            if job.id in self.held:
                continue
            if job.host != self.host:
                self._give_up(job)
                continue
            mine = self.store.queue.adopt(job, self.name)
            if mine is None:
                continue
            folder = self.home.job(job.id, job.attempt)
            held = Held(mine, folder, mine.process or {}, None)
            if is_alive(mine.process) or (folder / "exit.json").exists():
                self.held[job.id] = held
            else:
                self._vanished(held)

    def _give_up(self, job: Job) -> None:
        """A job of another host whose lease is over."""
        mine = self.store.queue.adopt(job, self.name)
        if mine is not None:
            self.store.queue.give_back(mine, "Its worker has not been heard of.")

    # Watching

    def _watch(self, held: Held) -> None:
        alive = held.child.poll() is None if held.child is not None else is_alive(held.process)
        if not self._pass_news_on(held):  # another worker has taken the job: end our process
            kill(family(held.process))
            del self.held[held.job.id]
            return
        if not alive:
            self._ended(held)
        elif held.job.stop_requested_at is not None:
            self._press(held)

    def _pass_news_on(self, held: Held) -> bool:
        """Import metrics, progress and a request to stop; False when the job is no longer ours."""
        self._import_steps(held)
        progress = _read_json(held.folder / "progress.json") or held.progress
        news = progress != held.progress
        now = time.time()
        if news or now - held.renewed_at > LEASE_RENEWAL_SECONDS:
            values = {"progress": progress.get("share", 0.0)}
            if held.job.stop_requested_at is None and progress:
                values["progress_text"] = progress["text"]
            if not self.store.queue.renew(held.job, **values):
                return False
            held.progress, held.renewed_at = progress, now
        fresh = self.store.queue.get(held.job.id)
        if fresh.worker != self.name or fresh.attempt != held.job.attempt:
            return False
        held.job = fresh
        return True

    def _import_steps(self, held: Held) -> None:
        path = held.folder / "metrics.jsonl"
        if not path.exists() or path.stat().st_size <= held.job.metrics_offset:
            return
        with path.open("rb") as file:
            file.seek(held.job.metrics_offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            steps = [json.loads(line) for line in whole.splitlines()]
            self.store.add_steps(held.job, steps, held.job.metrics_offset + len(whole))

    def _press(self, held: Held) -> None:
        """Stop in steps: a file and TERM, then, after the grace, KILL to all that were there."""
        now = time.time()
        if held.told_at is None:
            held.told_at = now
            held.members = family(held.process)
            (held.folder / "stop").touch()
            ask_to_end(held.process)
        elif now - held.told_at > GRACE_SECONDS.get(held.job.kind, 8.0):
            kill([*held.members, *family(held.process)])

    def _ended(self, held: Held) -> None:
        self._pass_news_on(held)
        if held.members:  # nothing of a stopped job may stay behind
            kill(held.members)
        result = _read_json(held.folder / "result.json")
        ended = _read_json(held.folder / "exit.json")
        if result is not None:
            facts = {**(result.get("result") or {})}
            if ended:
                facts["peak_bytes"] = ended["peak_bytes"]
            self._finish(held, JobStatus(result["status"]), result=facts, error=result.get("error"),
                         error_kind=result.get("error_kind"),
                         progress_text=result.get("progress_text", "Done" if result["status"] == "succeeded" else ""))  # fmt: skip
        elif ended is not None and held.job.stop_requested_at is None and ended["code"] > 0:
            self._finish(held, JobStatus.FAILED, error_kind="bug",
                         error=f"The job ended with code {ended['code']} and no result. The log holds the details.")  # fmt: skip
        elif ended is not None and ended["code"] == -signal.SIGSEGV:
            self._finish(held, JobStatus.FAILED, error_kind="bug",
                         error="A library crashed on this input. If it is a file you uploaded, it is probably damaged.")  # fmt: skip
        else:
            self._vanished(held, ended)

    def _vanished(self, held: Held, ended: dict[str, Any] | None = None) -> None:
        killed = ended is not None and ended["code"] == -signal.SIGKILL
        why = "Its process was killed (often for lack of memory)." if killed else "Its process vanished."
        self.store.queue.give_back(held.job, why)
        self.held.pop(held.job.id, None)

    def _finish(self, held: Held, status: JobStatus, **values: Any) -> None:
        self.store.finish(held.job, status, time.time(), **values)
        if held.child is not None:
            held.child.wait()
        del self.held[held.job.id]

    def run(self) -> None:
        """Turn until asked to end; jobs in progress go on without us."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        while not self.ending:
            try:
                self.turn()
            except UserError as error:
                print(f"worker: {error}", flush=True)
            except Exception:  # one bad round (a locked database, a full disk) must not end the worker
                traceback.print_exc()
                time.sleep(2)
            time.sleep(POLL_SECONDS)
        self.store.queue.sign_out(self.name)

    def end(self, *_: object) -> None:
        """Called by SIGTERM."""
        self.ending = True


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return found


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


def start_worker(home: Home, tasks: str | None = None) -> None:
    """Start a worker that outlives us, unless one is running."""
    if is_running(home):
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))}  # fmt: skip
    command = [sys.executable, "-m", "jobs.worker", "--home", str(home.root)]
    command += ["--tasks", tasks] if tasks else []
    with (home.root / "worker.log").open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                         start_new_session=True, close_fds=True, cwd=home.root, env=environment)  # fmt: skip


def main() -> int:
    """Entry of `python -m jobs.worker`."""
    parser = argparse.ArgumentParser(description="Run the studio's background jobs.")
    parser.add_argument("--home", type=Path, default=None, help="folder that keeps everything")
    parser.add_argument("--tasks", default="jobs.tasks", help=argparse.SUPPRESS)
    options = parser.parse_args()
    home = Home(options.home)
    lock = hold_lock(home)
    for _ in range(5):  # somebody who only looks holds it for a moment
        if lock is not None:
            break
        time.sleep(0.1)
        lock = hold_lock(home)
    if lock is None:
        print(f"A worker is already running for {home.root}.")
        return 0
    Worker(home, tasks=options.tasks).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
