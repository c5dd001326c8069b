"""Attempts at jobs: claim, lease, finish. Every write of a worker names its attempt.

Promises:

- A queued job is claimed by exactly one worker, whatever their number.
- A worker that lost its job changes nothing more: its writes ask for worker and attempt. A process that lost its lease
  ends itself: its renewals ask for attempt and token (``jobs.runner.lease``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hydralora.errors import CorpusError, DamagedError, ResultError
from jobs.home import Home
from jobs.kinds import KINDS
from jobs.store.changes import tell, topics_of_job
from jobs.store.clock import LEASE_SECONDS, database_now
from jobs.store.events import move, note
from jobs.store.order import next_of
from jobs.store.publishing import forget_metrics, publish
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.retrying import try_again
from jobs.store.rows import Rows, changed
from jobs.store.status import ACTIVE, FINISHED, JobStatus
from jobs.store.steps import take_in
from jobs.store.tables import JobRow

DAMAGED = "damaged"  # ``error_kind`` of a job whose files cannot be read


class Attempts:
    """What workers do with jobs."""

    def __init__(self, home: Home, rows: Rows, queue: Queue) -> None:
        self.home, self._rows, self._queue = home, rows, queue

    def claim(self, worker: str, host: str, lane: str, not_yet: Collection[str] = ()) -> Job | None:
        """Take the next waiting job of a lane (see ``jobs.store.order``), or None; jobs of the kinds ``not_yet`` go on
        waiting.

        One statement; the state is asked for again outside the sub-select, so that two workers that saw the same job
        cannot both have it.
        """
        claim = (
            update(JobRow)
            .where(JobRow.id == next_of(lane, not_yet, host.partition("/")[0]), JobRow.status == JobStatus.QUEUED)
            .values(
                status=JobStatus.RUNNING,
                worker=worker,
                host=host,
                attempt=JobRow.attempt + 1,
                fruitless=JobRow.fruitless + 1,
                token=secrets.token_hex(8),
                lease_until=database_now() + LEASE_SECONDS,
                started_at=time.time(),
                progress=0.0,
                metrics_offset=0,
                progress_text="Starting",
                process=None,
            )
            .returning(JobRow.id, JobRow.kind, JobRow.run_id, JobRow.corpus_id, JobRow.attempt)
        )
        with self._rows.writing() as session:
            taken = session.connection().execute(claim).one_or_none()
            if taken is None:
                return None
            states, why = (JobStatus.QUEUED, JobStatus.RUNNING), f"Attempt {taken.attempt}."
            note(session, taken.id, taken.attempt, states, f"worker {worker}", why)
            tell(session, *topics_of_job(taken.kind, taken.run_id, taken.corpus_id))
        return self._queue.get(taken.id)

    def write(self, job: Job, **values: Any) -> bool:
        """Change a running job on behalf of its worker; False when it is no longer theirs."""
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job) or JobStatus(row.status) not in ACTIVE:
                return False
            for name, value in values.items():
                setattr(row, name, value)
        return True

    def renew(self, job: Job, **values: Any) -> bool:
        """Renew the lease in place of the attempt's own process, with news of the progress."""
        return self.write(job, lease_until=database_now() + LEASE_SECONDS, **values)

    def adopt(self, job: Job, worker: str, *, takes_lease: bool = False) -> Job | None:
        """Take over a job whose worker has died; None when another was first.

        Args:
            takes_lease: Its process is not to go on, wherever it is: it can renew its lease no more and ends itself.
        """
        statement = (
            update(JobRow)
            .where(
                JobRow.id == job.id,
                JobRow.attempt == job.attempt,
                JobRow.worker == job.worker,
                JobRow.status.in_(ACTIVE),
            )
            .values(worker=worker, lease_until=database_now() + LEASE_SECONDS)
        )
        if takes_lease:
            statement = statement.values(token=None)
        with self._rows.writing() as session:
            done = changed(session, statement) == 1
        return self._get(job) if done else None

    def finish(self, job: Job, status: JobStatus, now: float, **values: Any) -> bool:
        """End a job, put what it has made in its place and write its result where its kind says, in one transaction;
        False when it is no longer theirs.

        Raises:
            DamagedError: When what it has made, or what it is about, is gone or damaged.
        """
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job):
                return False
            is_ended = JobStatus(row.status) in FINISHED  # by us, and the database died before it could say so
            if not is_ended and not self._finish(session, row, job, status, finished_at=now, **values):
                return False
            ended = Job.of(row)
        self._clear(ended)
        return not is_ended

    def _finish(self, session: Session, row: JobRow, job: Job, status: JobStatus, **values: Any) -> bool:
        folder = self.home.job(job.id, job.attempt)
        take_in(session, row, folder)
        if status == JobStatus.SUCCEEDED and job.kind in KINDS:
            publish(folder, KINDS[job.kind].outputs(self.home, job.payload))
            for made in KINDS[job.kind].artefacts_of(self.home, job.payload):
                self.home.artefacts.pend(made)
        why = values.get("error") or values.get("progress_text") or ""
        if not move(session, row, status, f"worker {job.worker}", why, **values):
            return False
        if status == JobStatus.SUCCEEDED:
            row.progress = 1.0
            if job.kind in KINDS:
                _write_result(session, row, self.home.near)
        return True

    def _clear(self, ended: Job) -> None:
        """Remove what a job that has ended needs no more; what is damaged is kept as it is."""
        if ended.status == JobStatus.SUCCEEDED and ended.kind in KINDS:
            for folder in KINDS[ended.kind].spent(self.home, ended.payload):
                self.home.artefacts.forget(folder)
        if ended.error_kind != DAMAGED:
            forget_metrics(self.home, ended)
        if ended.kind in KINDS and KINDS[ended.kind].resumes:
            self.home.artefacts.pend_drop(self.home.attempts(ended.id))

    def give_back(self, job: Job, why: str, *, interrupted: bool = False, pause: float = 0.0) -> None:
        """A process has gone without a result: queue the job again, or call it lost.

        It is lost after ``max_attempts`` in a row that came not one step further than those before, or very many that
        were ``interrupted``, as when the machine shuts down. What a user has asked to stop is stopped.

        Args:
            pause: Seconds before it is tried again, at least.
        """
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job) or JobStatus(row.status) not in ACTIVE:
                return
            take_in(session, row, self.home.job(job.id, job.attempt))
            try_again(session, row, f"worker {job.worker}", why, interrupted=interrupted, pause=pause)
            session.flush()
            now = Job.of(row)
        forget_metrics(self.home, now)

    def orphans(self, me: str, is_ours: Callable[[Job], bool]) -> list[Job]:
        """Running jobs of this machine, as ``is_ours`` tells, of another (earlier) worker, or whose lease is over."""
        query = select(JobRow, JobRow.lease_until < database_now()).where(JobRow.status.in_(ACTIVE)).order_by(JobRow.id)
        with self._rows.reading() as session:
            active = [(Job.of(row), bool(is_over)) for row, is_over in session.execute(query)]
        return [job for job, is_over in active if (job.worker != me and is_ours(job)) or is_over]

    def _get(self, job: Job) -> Job:
        return self._queue.get(job.id)


def _write_result(session: Session, row: JobRow, home: Home) -> None:
    """Write a result where its kind says.

    Raises:
        DamagedError: When what it is about is gone or damaged, which no later try would mend.
    """
    try:
        KINDS[row.kind].write_result(session, row, home)
    except (CorpusError, ResultError) as error:
        raise DamagedError(str(error)) from error


def is_held(row: JobRow, job: Job) -> bool:
    """Whether the worker of this copy still has the job, at the same attempt."""
    return (row.worker, row.attempt) == (job.worker, job.attempt)
