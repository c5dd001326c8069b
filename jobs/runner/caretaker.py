"""Looks after the attempts of a worker: adopts what others have left, passes news on, asks them to stop, and stores how
they ended."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hydralora.errors import DamagedError, UserError
from hydralora.plain import one_line
from jobs.home import is_shared
from jobs.kinds import grace_seconds
from jobs.runner.begin import REFUSED
from jobs.runner.choice import NODE_LOST, Handle, UnreachableError
from jobs.runner.executors import Executor
from jobs.runner.leftovers import remove_leftovers
from jobs.runner.outcome import Outcome, Retry, outcome_of
from jobs.runner.ownership import STARTED, give_up, started_in
from jobs.runner.processes import boot_of, host_name, identity
from jobs.runner.remains import end_remains
from jobs.runner.running import RESTARTED, RunningJob, gpu_of, read_handle
from jobs.store.attempts import DAMAGED
from jobs.store.database import without_secrets
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store

log = logging.getLogger("jobs.runner.worker")  # whose log it is
MOST_SAID = 4_000  # characters of an engine's own words that are kept
TROUBLE_SECONDS = 2.0  # before a job that could not be looked after is tried again
GO_ON = "Check the disk; then resume it, or start it again: what it had finished is still there."


class Signature:
    """How a worker signs: name, host and process."""

    def __init__(self) -> None:
        self.host, self.process = host_name(), identity()
        self.name = f"{self.host}:{self.process['pid']}:{self.process['created']:.2f}"


class Caretaker:
    """Everything that a worker does with what has begun.

    Args:
        me: The worker.
    """

    def __init__(self, store: Store, executor: Executor, me: Signature) -> None:
        self.store, self.executor, self.me = store, executor, me
        self.running: dict[int, RunningJob] = {}

    def look_after_all(self) -> None:
        """Look once after every attempt that is not in trouble just now."""
        now = time.monotonic()
        for running in list(self.running.values()):
            if running.rests_until < now:
                self._take_care(running, self._watch)

    def trained_on(self) -> list[str | None]:
        """The GPU of this machine of each heavy job that runs here; None of one that has none."""
        return [one.gpu for one in self.running.values() if one.job.lane == "heavy" and not one.is_elsewhere]

    # Adopt

    def adopt(self) -> None:
        found = self.store.attempts.orphans(self.me.name, self._is_left_to_us)
        for running in self.running.values():
            running.is_silent = any(job.id == running.job.id for job in found)
        for job in found:
            if job.id in self.running:
                continue
            folder = self.store.home.job(job.id, job.attempt)
            handle = read_handle(folder)
            is_near = job.host == self.me.host or bool(handle)  # an engine knows of its attempt wherever it is asked
            if not is_near and not self._fetch_numbers(folder):
                continue
            mine = self.store.attempts.adopt(job, self.me.name, takes_lease=not is_near)
            if mine is None:
                continue
            if is_near:
                handle = mine.process or handle or self._find_owner(mine, folder)
                self.running[job.id] = RunningJob(mine, folder, handle)
            else:  # a pid of another machine, or of an earlier boot of this one, is nobody here
                why = RESTARTED if self._was_before(job) else "Its worker has not been heard of."
                self.running[job.id] = RunningJob(mine, folder, {}, gone=why)

    def _fetch_numbers(self, folder: Path) -> bool:
        """Fetch what an attempt of another machine has sent to the artefact store; whether that could be asked."""
        try:
            self.store.home.artefacts.fetch(folder)
        except UserError as error:
            log.warning("%s", one_line(str(error)))
            return False
        return True

    def renew_waiting(self) -> None:
        """Renew the leases of attempts that wait for a node, in place of processes that have not begun."""
        for running in self.running.values():
            if running.is_elsewhere and not (running.folder / STARTED).exists():
                self.store.attempts.renew(running.job, progress_text="Waiting for a node")

    def _find_owner(self, job: Job, folder: Path) -> Handle:
        """What an earlier worker has started and died before it could store it; empty where nothing was."""
        handle, gpu = started_in(folder), gpu_of(folder)
        if handle:
            handle = {**handle, "gpu": gpu} if gpu else handle
            self.store.attempts.write(job, process=handle)
        return handle

    def _is_left_to_us(self, job: Job) -> bool:
        """Whether a job of another worker is ours to look after: it is of this machine, or its worker has gone and an
        engine can be asked for it from anywhere."""
        if job.host == self.me.host or self._was_before(job):
            return True
        is_elsewhere = "engine" in (job.process or {})
        return is_elsewhere and all(worker["name"] != job.worker for worker in self.store.workers.seen())

    def _was_before(self, job: Job) -> bool:
        """Whether a job's machine has started anew since: a home in one file has one machine, which is this one."""
        return not is_shared() and boot_of(job.host or "") != boot_of(self.me.host)

    # Watch

    def _take_care(self, running: RunningJob, do: Callable[[RunningJob], None]) -> None:
        """Do something for one job, whose trouble is its own: the others, and the worker, go on."""
        try:
            self._or_quarantine(running, do)
        except (UserError, OSError) as error:  # the database is busy, the disk is full: later, perhaps
            log.warning("Job %d: %s", running.job.id, one_line(str(error)))
            running.rests_until = time.monotonic() + TROUBLE_SECONDS
        except Exception:  # not even its end can be stored now
            log.error("%s", without_secrets(traceback.format_exc(), self.store.home.database_url))
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
            log.error("%s", without_secrets(traceback.format_exc(), self.store.home.database_url))
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
            if not self.store.attempts.write(running.job, **values):
                return False
            running.progress = progress
        fresh = self.store.queue.get(running.job.id)
        if fresh.worker != self.me.name or fresh.attempt != running.job.attempt:
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
            remove_leftovers(self.store.home, running.job)
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
        handle = running.handle or (started_in(running.folder) if running.job.host == self.me.host else {})
        if handle:
            self.executor.stop(handle, at_once=True)
        end_remains(running.folder)

    def _end(self, running: RunningJob, outcome: Outcome | Retry) -> None:
        """Store the outcome, or queue the job again."""
        if isinstance(outcome, Retry):
            self.store.attempts.give_back(
                running.job, outcome.why, interrupted=outcome.interrupted, pause=outcome.pause
            )
        elif outcome.values.get("error_kind") != "memory" or not self.store.runs.retry_smaller(running.job):
            self.store.attempts.finish(running.job, outcome.status, time.time(), **outcome.values)
        if running.handle:
            self.executor.collect(running.handle)
        self.running.pop(running.job.id, None)
