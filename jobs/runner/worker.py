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
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from hydralora.errors import UserError
from hydralora.plain import one_line, plain
from jobs.artefacts.address import VARIABLE
from jobs.home import Home
from jobs.kinds import KINDS, kind_of
from jobs.machine import choose_gpu, look_at_gpus, own_address
from jobs.runner.caretaker import TROUBLE_SECONDS, Caretaker, Signature
from jobs.runner.cgroup import end_group
from jobs.runner.choice import KEY, Choice, UnreachableError
from jobs.runner.executors import EXECUTORS, Executor
from jobs.runner.executors.by_lane import ByLane
from jobs.runner.leftovers import left_groups
from jobs.runner.limits import machine_memory
from jobs.runner.logs import begin_log
from jobs.runner.outcome import NO_ROOM_YET, ROOM_SECONDS
from jobs.runner.room import is_full, lacks_room
from jobs.runner.running import RunningJob, write_spec
from jobs.runner.service import own_version, sign_lock, wait_for_lock
from jobs.runner.webhook import Webhook
from jobs.sending import start_sending
from jobs.store.clock import FAR_APART_SECONDS, clock_offset
from jobs.store.database import without_secrets
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.sweeping import half_written, sweep, tidy_attempts
from jobs.tour import Tour

log = logging.getLogger("jobs.runner.worker")  # under its own name also where it runs as a program
POLL_SECONDS = 0.4
SIGN_OF_LIFE_SECONDS = 4.0
TOUR_SECONDS = 1.0
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
        self.me = Signature()
        self.care = Caretaker(self.store, self.executor, self.me)
        self.webhook = Webhook(self.store)
        self.signed_at = self.toured_at = -math.inf
        self.is_new = True
        self.ending = False

    @cached_property
    def gpus(self) -> int:
        """How many GPUs there are; each takes one training at a time."""
        return len(look_at_gpus())

    def reconcile(self) -> None:
        """Look once after what an earlier worker has left, and start nothing."""
        self.care.adopt()
        self.care.look_after_all()

    def do_round(self) -> None:
        """Sign in and adopt, watch, go on with the tour, claim."""
        now = time.monotonic()  # the clock may be set meanwhile
        if self.is_new:
            self.is_new = False
            tidy_attempts(self.store)
            self.store.run_list.fill_scores()  # of answers that an earlier version measured
            self._look_at_clock()
        if now - self.signed_at > SIGN_OF_LIFE_SECONDS:
            self.store.workers.sign_in(self.me.name, self.me.host, self.me.process, own_version(), self._place)
            self.signed_at = now
            if self.store.is_newer:
                log.warning("The database is of a newer version of the studio now: this worker ends, its jobs go on.")
                return self.end()
            self.care.adopt()
            self.care.renew_waiting()
        self.care.look_after_all()
        if now - self.toured_at > TOUR_SECONDS:
            self.toured_at = now
            with self.store.leading() as leads:
                if leads:
                    Tour(self.store).advance()
                    self.store.order.end_hopeless()
                    self.webhook.advance()
        waiting = self.store.queue.waiting_kinds()
        for lane in SLOTS:
            self._claim(lane, waiting.get(lane, set()))
        self._share_gpu()

    def _look_at_clock(self) -> None:
        ahead = clock_offset(self.store.engine)
        if abs(ahead) > FAR_APART_SECONDS:
            log.warning(
                "The clock of this machine is %+.0f s from the database's: leases are told by that one, but times "
                "that are shown mislead. Let both machines set their clocks by NTP.",
                ahead,
            )

    @cached_property
    def _place(self) -> dict[str, Any]:
        """What this machine has, and where others reach it, for its row."""
        devices = [{"name": gpu.name, "total": gpu.total, "uuid": gpu.uuid} for gpu in look_at_gpus()]
        return {"devices": devices, "memory": machine_memory(), "address": own_address(self.home.database_url)}

    def _share_gpu(self) -> None:
        """Training goes before chat: while a heavy job has the model server's GPU, or waits for the only one, the
        server keeps off it."""
        chat = next((running.gpu for running in self.care.running.values() if running.job.lane == "server"), None)
        is_wanted = self.gpus <= 1 and self.store.queue.has_waiting("heavy") and self.executor.slots("train") is None
        if chat in self.care.trained_on() or is_wanted:
            self.home.make_room.touch()
        else:
            self.home.make_room.unlink(missing_ok=True)

    def _slots(self, lane: str) -> int:
        """How many jobs of a lane may run at once: of the heavy ones, one a GPU, or what is room for elsewhere."""
        if lane != "heavy":
            return SLOTS[lane]
        elsewhere = self.executor.slots("train")
        return max(SLOTS[lane], self.gpus) if elsewhere is None else elsewhere

    # Claim

    def _claim(self, lane: str, kinds: set[str]) -> None:
        """Start jobs of a lane while there is room in it; those that the executor makes ready for wait, and all while
        the disk is full."""
        if not kinds or is_full(self.home.root):
            return
        not_yet = {kind for kind in kinds if kind in KINDS and not self.executor.is_ready(kind, self.home.machine)}
        while not self.ending and sum(running.job.lane == lane for running in self.care.running.values()) < self._slots(
            lane
        ):
            job = self.store.attempts.claim(self.me.name, self.me.host, lane, not_yet)
            if job is None:
                break
            self._start(job)

    def _start(self, job: Job) -> None:
        try:
            is_near = kind_of(job.kind).uses_gpu and self.executor.slots(job.kind) is None
            gpu = choose_gpu(look_at_gpus(), self.care.trained_on()) if is_near else None
            folder = write_spec(self.home, job, self.tasks, gpu.uuid if gpu else None)
            handle = self.executor.start(job.kind, folder, self.home.machine, gpu.uuid if gpu else None)
        except UnreachableError as error:
            self.store.attempts.give_back(job, str(error), interrupted=True, pause=TROUBLE_SECONDS)
        except UserError as error:
            self._refuse(job, "user", str(error))
        except OSError as error:
            if lacks_room(error):
                return self.store.attempts.give_back(job, NO_ROOM_YET, interrupted=True, pause=ROOM_SECONDS)
            self._refuse(job, "disk", f"The job could not be started: {error}. Free disk space and try again.")
        else:
            handle = {**handle, "gpu": gpu.uuid} if gpu else handle
            self.store.attempts.write(job, process=handle)
            self.care.running[job.id] = RunningJob(self.store.queue.get(job.id), folder, handle)

    def _refuse(self, job: Job, kind: str, error: str) -> None:
        self.store.attempts.finish(job, JobStatus.FAILED, time.time(), error_kind=kind, error=error)

    def run(self) -> None:
        """Do rounds until asked to end; jobs in progress go on without us."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        self._sweep()
        start_sending(self.store)
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
            self.store.workers.sign_out(self.me.name)

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
    if home.artefacts.is_on:
        os.environ[VARIABLE] = home.artefacts.url  # the jobs' processes know no database to look it up in
    carries_out = carries_out or ByLane(Choice.load(store.settings.get(KEY)), home.root)
    Worker(home, store=store, tasks=tasks, executor=carries_out).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
