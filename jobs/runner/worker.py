"""The worker: claims jobs, has an executor carry them out, and keeps their rows true.

`python -m jobs.runner.worker --home FOLDER`. It outlives the web process, and its jobs outlive it: a
new worker adopts the attempts it finds alive, reads the results of those that ended meanwhile,
and queues again what vanished.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from hydralora.errors import DamagedError, UserError
from hydralora.plain import one_line, plain
from jobs.home import Home, is_shared
from jobs.kinds import KINDS, grace_seconds, kind_of
from jobs.machine import choose_gpu, look_at_gpus, own_address
from jobs.runner.begin import REFUSED
from jobs.runner.cgroup import end_group
from jobs.runner.choice import KEY, NODE_LOST, Choice, Handle, UnreachableError
from jobs.runner.executors import EXECUTORS, Executor
from jobs.runner.executors.by_lane import ByLane
from jobs.runner.leftovers import left_groups, remove_leftovers
from jobs.runner.limits import machine_memory
from jobs.runner.logs import begin_log
from jobs.runner.outcome import NO_ROOM_YET, ROOM_SECONDS, Outcome, Retry, outcome_of
from jobs.runner.ownership import STARTED, give_up, started_in
from jobs.runner.processes import boot_of, host_name, identity
from jobs.runner.remains import end_remains
from jobs.runner.room import is_full, lacks_room
from jobs.runner.running import RESTARTED, RunningJob, gpu_of, read_handle, write_spec
from jobs.runner.service import own_version, sign_lock, wait_for_lock
from jobs.store.database import without_secrets
from jobs.store.queue import DAMAGED
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.sweeping import half_written, sweep, tidy_attempts
from jobs.tour import Tour

log = logging.getLogger("jobs.runner.worker")  # under its own name also where it runs as a program
POLL_SECONDS = 0.4
SIGN_OF_LIFE_SECONDS = 4.0
TOUR_SECONDS = 1.0
MOST_SAID = 4_000  # characters of an engine's own words that are kept
TROUBLE_SECONDS = 2.0  # before a job that could not be looked after is tried again
GO_ON = "Check the disk; then resume it, or start it again: what it had finished is still there."
SLOTS = {"light": 1, "heavy": 1, "server": 1, "network": 1}


class Worker:
    """One supervisor; ``do_round`` does everything once.

    Args:
        tasks: A module that brings tasks, and may register kinds, of its own.
        executor: Carries the jobs out; processes of this machine where none is given.
    """

    def __init__(
        self,
        home: Home,
        *,
        store: Store | None = None,
        tasks: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.home, self.tasks = home, tasks
        if tasks is not None:
            importlib.import_module(tasks)
        self.store = store or Store(home)
        self.executor = executor or ByLane(Choice(), home.root)
        self.host = host_name()
        self.process = identity()
        self.name = f"{self.host}:{self.process['pid']}:{self.process['created']:.2f}"
        self.running: dict[int, RunningJob] = {}
        self.signed_at = self.toured_at = -math.inf
        self.is_new = True
        self.ending = False

    @cached_property
    def gpus(self) -> int:
        """How many GPUs there are; each takes one training at a time."""
        return len(look_at_gpus())

    def reconcile(self) -> None:
        """Look once after what an earlier worker has left, and start nothing."""
        self._adopt_orphans()
        for running in list(self.running.values()):
            self._take_care(running, self._watch)

    def do_round(self) -> None:
        """Sign in and adopt, watch, go on with the tour, claim."""
        now = time.monotonic()  # the clock may be set meanwhile
        if self.is_new:
            self.is_new = False
            tidy_attempts(self.store)
            self.store.run_list.fill_scores()  # of answers that an earlier version measured
        if now - self.signed_at > SIGN_OF_LIFE_SECONDS:
            self.store.queue.sign_in(self.name, self.host, self.process, own_version(), self._place)
            self.signed_at = now
            if self.store.is_newer:
                log.warning("The database is of a newer version of the studio now: this worker ends, its jobs go on.")
                return self.end()
            self._adopt_orphans()
            self._renew_waiting()
        for running in list(self.running.values()):
            if running.rests_until < now:
                self._take_care(running, self._watch)
        if now - self.toured_at > TOUR_SECONDS:
            self.toured_at = now
            with self.store.leading() as leads:
                if leads:
                    Tour(self.store).advance()
                    self.store.order.end_hopeless()
        waiting = self.store.queue.waiting_kinds()
        for lane in SLOTS:
            self._claim(lane, waiting.get(lane, set()))
        self._share_gpu()

    @cached_property
    def _place(self) -> dict[str, Any]:
        """What this machine has, and where others reach it, for its row."""
        devices = [{"name": gpu.name, "total": gpu.total, "uuid": gpu.uuid} for gpu in look_at_gpus()]
        return {"devices": devices, "memory": machine_memory(), "address": own_address(self.home.database_url)}

    def _share_gpu(self) -> None:
        """Training goes before chat: while a heavy job has the model server's GPU, or waits for the only one, the
        server keeps off it."""
        chat = next((running.gpu for running in self.running.values() if running.job.lane == "server"), None)
        is_wanted = self.gpus <= 1 and self.store.queue.has_waiting("heavy") and self.executor.slots("train") is None
        if chat in self._trained_on() or is_wanted:
            self.home.make_room.touch()
        else:
            self.home.make_room.unlink(missing_ok=True)

    def _trained_on(self) -> list[str | None]:
        """The GPU of this machine of each heavy job that runs here; None of one that has none."""
        return [one.gpu for one in self.running.values() if one.job.lane == "heavy" and not one.is_elsewhere]

    def _slots(self, lane: str) -> int:
        """How many jobs of a lane may run at once: of the heavy ones, one a GPU, or what is room for elsewhere."""
        if lane != "heavy":
            return SLOTS[lane]
        elsewhere = self.executor.slots("train")
        return max(SLOTS[lane], self.gpus) if elsewhere is None else elsewhere

    # Claim and adopt

    def _claim(self, lane: str, kinds: set[str]) -> None:
        """Start jobs of a lane while there is room in it; those that the executor makes ready for wait, and all while
        the disk is full."""
        if not kinds or is_full(self.home.root):
            return
        not_yet = {kind for kind in kinds if kind in KINDS and not self.executor.is_ready(kind, self.home.machine)}
        while not self.ending and sum(running.job.lane == lane for running in self.running.values()) < self._slots(
            lane
        ):
            job = self.store.queue.claim(self.name, self.host, lane, not_yet)
            if job is None:
                break
            self._start(job)

    def _start(self, job: Job) -> None:
        try:
            is_near = kind_of(job.kind).uses_gpu and self.executor.slots(job.kind) is None
            gpu = choose_gpu(look_at_gpus(), self._trained_on()) if is_near else None
            folder = write_spec(self.home, job, self.tasks, gpu.uuid if gpu else None)
            handle = self.executor.start(job.kind, folder, self.home.machine, gpu.uuid if gpu else None)
        except UnreachableError as error:
            self.store.queue.give_back(job, str(error), interrupted=True, pause=TROUBLE_SECONDS)
        except UserError as error:
            self._refuse(job, "user", str(error))
        except OSError as error:
            if lacks_room(error):
                return self.store.queue.give_back(job, NO_ROOM_YET, interrupted=True, pause=ROOM_SECONDS)
            self._refuse(job, "disk", f"The job could not be started: {error}. Free disk space and try again.")
        else:
            handle = {**handle, "gpu": gpu.uuid} if gpu else handle
            self.store.queue.write(job, process=handle)
            self.running[job.id] = RunningJob(self.store.queue.get(job.id), folder, handle)

    def _refuse(self, job: Job, kind: str, error: str) -> None:
        self.store.queue.finish(job, JobStatus.FAILED, time.time(), error_kind=kind, error=error)

    def _adopt_orphans(self) -> None:
        found = self.store.queue.orphans(self.name, self._is_left_to_us)
        for running in self.running.values():
            running.is_silent = any(job.id == running.job.id for job in found)
        for job in found:
            if job.id in self.running:
                continue
            folder = self.home.job(job.id, job.attempt)
            handle = read_handle(folder)
            is_near = job.host == self.host or bool(handle)  # an engine knows of its attempt wherever it is asked
            mine = self.store.queue.adopt(job, self.name, takes_lease=not is_near)
            if mine is None:
                continue
            if is_near:
                handle = mine.process or handle or self._find_owner(mine, folder)
                self.running[job.id] = RunningJob(mine, folder, handle)
            else:  # a pid of another machine, or of an earlier boot of this one, is nobody here
                why = RESTARTED if self._was_before(job) else "Its worker has not been heard of."
                self.running[job.id] = RunningJob(mine, folder, {}, gone=why)

    def _renew_waiting(self) -> None:
        """Renew the leases of attempts that wait for a node, in place of processes that have not begun."""
        for running in self.running.values():
            if running.is_elsewhere and not (running.folder / STARTED).exists():
                self.store.queue.renew(running.job, progress_text="Waiting for a node")

    def _find_owner(self, job: Job, folder: Path) -> Handle:
        """What an earlier worker has started and died before it could store it; empty where nothing was."""
        handle, gpu = started_in(folder), gpu_of(folder)
        if handle:
            handle = {**handle, "gpu": gpu} if gpu else handle
            self.store.queue.write(job, process=handle)
        return handle

    def _is_left_to_us(self, job: Job) -> bool:
        """Whether a job of another worker is ours to look after: it is of this machine, or its worker has gone and an
        engine can be asked for it from anywhere."""
        if job.host == self.host or self._was_before(job):
            return True
        is_elsewhere = "engine" in (job.process or {})
        return is_elsewhere and all(worker["name"] != job.worker for worker in self.store.queue.workers())

    def _was_before(self, job: Job) -> bool:
        """Whether a job's machine has started anew since: a home in one file has one machine, which is this one."""
        return not is_shared() and boot_of(job.host or "") != boot_of(self.host)

    # Watch and lease

    def _take_care(self, running: RunningJob, do: Callable[[RunningJob], None]) -> None:
        """Do something for one job, whose trouble is its own: the others, and the worker, go on."""
        try:
            self._or_quarantine(running, do)
        except (UserError, OSError) as error:  # the database is busy, the disk is full: later, perhaps
            log.warning("Job %d: %s", running.job.id, one_line(str(error)))
            running.rests_until = time.monotonic() + TROUBLE_SECONDS
        except Exception:  # not even its end can be stored now
            log.error("%s", without_secrets(traceback.format_exc(), self.home.database_url))
            running.rests_until = time.monotonic() + TROUBLE_SECONDS

    def _or_quarantine(self, running: RunningJob, do: Callable[[RunningJob], None]) -> None:
        """Do something for one job, or end it where that cannot be done, now or later."""
        try:
            do(running)
        except DamagedError as error:
            self._quarantine(running, str(error))
        except (UserError, OSError):
            raise
        except Exception:
            log.error("%s", without_secrets(traceback.format_exc(), self.home.database_url))
            self._quarantine(running, "What it has left behind cannot be stored; the worker's log holds the details.")

    def _quarantine(self, running: RunningJob, why: str) -> None:
        """End a job whose files are damaged; they stay as they are."""
        self._end_processes(running)
        outcome = Outcome(JobStatus.FAILED, {"error_kind": DAMAGED, "error": f"{why} {GO_ON}"})
        self._end(running, outcome)

    def _watch(self, running: RunningJob) -> None:
        alive = self._is_alive(running)
        if not self._pass_news_on(running):  # another worker has taken the job: end our attempt
            self._end_processes(running)
            del self.running[running.job.id]
        elif not alive:
            self._ended(running)
        elif running.job.stop_requested_at is not None:
            self._escalate_stop(running)

    def _is_alive(self, running: RunningJob) -> bool:
        """Whether something works on an attempt; where its engine does not tell, its lease does."""
        try:
            return self.executor.is_alive(running.handle)
        except UnreachableError as error:
            log.warning("Job %d: %s", running.job.id, one_line(str(error)))
            return running.result() is None and not running.is_silent

    def _pass_news_on(self, running: RunningJob) -> bool:
        """Store metrics and progress, see what is asked; False when the job is no longer ours."""
        metrics = running.new_metrics()
        if metrics.offset > running.job.metrics_offset:
            self.store.runs.add_steps(running.job, metrics.steps, metrics.offset)
        if metrics.problem:
            raise DamagedError(metrics.problem)
        progress = running.new_progress()
        if progress != running.progress:
            values = {"progress": progress.get("share", 0.0)}
            if running.job.stop_requested_at is None and progress:
                values["progress_text"] = progress["text"]
            if not self.store.queue.write(running.job, **values):
                return False
            running.progress = progress
        fresh = self.store.queue.get(running.job.id)
        if fresh.worker != self.name or fresh.attempt != running.job.attempt:
            return False
        running.job = fresh
        return True

    # Stop and end

    def _escalate_stop(self, running: RunningJob) -> None:
        """Stop in steps: a file and TERM, then, after the grace, KILL to all that were there."""
        now = time.monotonic()
        if running.stop_sent_at is None:
            running.stop_sent_at = now
            running.ask_to_stop()
            self.executor.stop(running.handle)
        elif now - running.stop_sent_at > grace_seconds(running.job.kind):
            self.executor.stop(running.handle, at_once=True)

    def _ended(self, running: RunningJob) -> None:
        self._end_processes(running)
        self._pass_news_on(running)
        if running.result() is None:  # it was killed: it has not cleaned up itself
            remove_leftovers(self.home, running.job)
            self._hear_engine(running)
        self._end(running, outcome_of(running))

    def _hear_engine(self, running: RunningJob) -> None:
        """Keep what an engine says of an attempt that has left no word: of a node that died nothing else is heard."""
        if not running.is_elsewhere or running.exit() is not None:
            return
        running.gone = NODE_LOST
        said = self.executor.logs(running.handle).strip()
        if said:
            with (running.folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{said[-MOST_SAID:]}\n")
        if REFUSED in said:
            running.refused = said.partition(REFUSED)[2].strip().splitlines()[0]

    def _end_processes(self, running: RunningJob) -> None:
        """End what is left of an attempt whose first process has gone: nothing of it may work beside the next one."""
        give_up(running.folder)
        handle = running.handle or (started_in(running.folder) if running.job.host == self.host else {})
        if handle:
            self.executor.stop(handle, at_once=True)
        end_remains(running.folder)

    def _end(self, running: RunningJob, outcome: Outcome | Retry) -> None:
        """Store the outcome, or queue the job again."""
        if isinstance(outcome, Retry):
            self.store.queue.give_back(running.job, outcome.why, interrupted=outcome.interrupted, pause=outcome.pause)
        elif outcome.values.get("error_kind") != "memory" or not self.store.runs.retry_smaller(running.job):
            self.store.queue.finish(running.job, outcome.status, time.time(), **outcome.values)
        if running.handle:
            self.executor.collect(running.handle)
        self.running.pop(running.job.id, None)

    def run(self) -> None:
        """Do rounds until asked to end; jobs in progress go on without us."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        self._sweep()
        while not self.ending:
            try:
                self.do_round()
            except UserError as error:
                log.warning("%s", one_line(str(error)))
            except Exception:  # one bad round (a locked database, a full disk) must not end the worker
                log.error("%s", without_secrets(traceback.format_exc(), self.home.database_url))
                time.sleep(2)
            time.sleep(POLL_SECONDS)
        with suppress(UserError):  # it is told as gone a little later then
            self.store.queue.sign_out(self.name)

    def _sweep(self) -> None:
        """Delete what those before have left half-written, and end what of their attempts works on."""
        try:
            sweep(half_written(self.store))
            for group in left_groups(self.store):
                end_group(group)
        except (UserError, OSError) as error:
            log.warning("Leftovers stay: %s", one_line(str(error)))

    def end(self, *_: object) -> None:
        """Called by SIGTERM."""
        self.ending = True


def main() -> int:
    """Entry of `python -m jobs.runner.worker`."""
    parser = argparse.ArgumentParser(description="Run the studio's background jobs.")
    parser.add_argument("--home", type=Path, default=None, help="folder that keeps everything")
    parser.add_argument("--executor", default=None, help=f"what carries heavy jobs out: {', '.join(EXECUTORS)}")
    parser.add_argument("--ray-address", default="", help="of the dashboard of a Ray cluster, http://HOST:8265")
    parser.add_argument("--tasks", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    begin_log()
    try:
        choice = Choice(options.executor, options.ray_address) if options.executor else None
        return work(Home(options.home), options.tasks, choice)
    except UserError as error:
        sys.stderr.write(f"{plain(str(error))}\n")  # the answer of a command, not a line of the log
        return 2


def work(home: Home, tasks: str | None = None, choice: Choice | None = None) -> int:
    """Work until asked to end, unless another worker has this home already.

    Args:
        choice: What carries heavy jobs out; the one that the studio remembers where none is given.

    Raises:
        UserError: When the database cannot be used, or there is no such executor.
    """
    carries_out = ByLane(choice, home.root) if choice else None
    lock = wait_for_lock(home)
    if lock is None:
        log.info("A worker is already running for %s.", home.root)
        return 0
    sign_lock(lock)
    store = Store(home)
    carries_out = carries_out or ByLane(Choice.load(store.settings.get(KEY)), home.root)
    Worker(home, store=store, tasks=tasks, executor=carries_out).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
