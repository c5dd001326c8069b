"""The queue: claim, lease, finish. Every write of a worker names its attempt.

Promises:

- A queued job is claimed by exactly one worker, whatever their number.
- A worker that lost its job changes nothing more: its writes ask for worker and attempt. A process that lost its lease
  ends itself: its renewals ask for attempt and token (``jobs.runner.lease``).
- A finished job never changes.
- Light jobs (import, cluster, analyse) have their own lane and never wait behind training.
- Visitors take turns: sixty jobs of one do not keep another's waiting.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hydralora.errors import CorpusError, DamagedError, ResultError, UserError
from hydralora.files import remove
from hydralora.plain import shown, without_paths
from jobs.home import Home
from jobs.kinds import KINDS, artefacts_of, kind_of
from jobs.store.changes import WORKER_GONE_SECONDS, tell, topics_of_job
from jobs.store.clock import LEASE_SECONDS, database_now, lately
from jobs.store.events import actor, events_of, move, note
from jobs.store.metrics import FILE as METRICS
from jobs.store.order import can_begin, depend, next_of
from jobs.store.publishing import OUT, publish
from jobs.store.records import Event, Job
from jobs.store.retrying import try_again
from jobs.store.rows import Rows, changed
from jobs.store.status import ACTIVE, FINISHED, JobStatus
from jobs.store.steps import take_in
from jobs.store.tables import JobRow, WorkerRow, find_row
from jobs.visitor import NOBODY

LOG = logging.getLogger(__name__)
DAMAGED = "damaged"  # ``error_kind`` of a job whose files cannot be read
MOST_WAITING = 200  # jobs of one visitor of the page


class Queue:
    """All reads and writes of jobs."""

    def __init__(self, home: Home, rows: Rows) -> None:
        self.home, self._rows = home, rows

    def add(
        self,
        session: Session,
        kind: str,
        payload: dict[str, Any] | None = None,
        *,
        corpus_id: int | None = None,
        run_id: int | None = None,
        max_attempts: int = 3,
        priority: int = 0,
        after: Iterable[int] = (),
    ) -> JobRow:
        """Put a job into the queue within the caller's transaction.

        Args:
            after: Ids of jobs that must have succeeded before it begins.

        Raises:
            UserError: When there is no such kind, or this visitor has very many jobs waiting already.
        """
        visitor = self._rows.user
        self._check_waiting(session, visitor)
        row = JobRow(
            kind=kind,
            lane=kind_of(kind).lane,
            payload=payload or {},
            corpus_id=corpus_id,
            run_id=run_id,
            visitor=visitor,
            max_attempts=max_attempts,
            priority=priority,
        )
        session.add(row)
        session.flush()
        depend(session, row, after)
        note(session, row.id, 0, (None, JobStatus.QUEUED), actor(visitor), "")
        return row

    def _check_waiting(self, session: Session, visitor: str) -> None:
        if visitor == NOBODY:
            return
        query = select(func.count()).where(JobRow.status == JobStatus.QUEUED, JobRow.visitor == visitor)
        if (waiting := session.scalar(query) or 0) >= MOST_WAITING:
            raise UserError(f"{waiting} of your jobs wait already, the most there may be. Wait for some, or stop them.")

    def submit(self, kind: str, payload: dict[str, Any] | None = None, **links: Any) -> Job:
        """Put a job into the queue by itself."""
        with self._rows.writing() as session:
            return Job.of(self.add(session, kind, payload, **links))

    def only(self, kind: str, payload: dict[str, Any] | None = None, *, machine: str = "", **links: Any) -> Job:
        """The one open job of a kind of which there is never a second; queued where there is none.

        Args:
            machine: Name of the one that is to carry it out, and has one of its own.
        """
        single = f"{kind} of {machine}" if machine else kind
        try:
            with self._rows.writing() as session:
                is_it = (JobRow.single == single, JobRow.status.not_in(FINISHED))
                found = session.scalar(select(JobRow).where(*is_it))
                if found is None:
                    found = self.add(session, kind, payload, **links)
                    found.single, found.host = single, machine or None
                    session.flush()
                return Job.of(found)
        except IntegrityError:  # somebody else was first, which the index tells
            return self.only(kind, payload, machine=machine, **links)

    def get(self, job_id: int) -> Job:
        """One job.

        Raises:
            UserError: When it does not exist.
        """
        with self._rows.reading() as session:
            row = find_row(session, JobRow, job_id)
            if row is None:
                raise UserError(f"Job {shown(job_id)} does not exist.")
            return Job.of(row)

    def jobs(self, *, statuses: Iterable[str] | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """Jobs, newest first."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
        if statuses is not None:
            query = query.where(JobRow.status.in_(list(statuses)))
        if kind is not None:
            query = query.where(JobRow.kind == kind)
        with self._rows.reading() as session:
            return [Job.of(row) for row in session.scalars(query)]

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
        return self.get(taken.id)

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
        return self.get(job.id) if done else None

    def finish(self, job: Job, status: JobStatus, now: float, **values: Any) -> bool:
        """End a job, put what it has made in its place and write its result where its kind says, in one transaction;
        False when it is no longer theirs.

        Raises:
            DamagedError: When what it has made, or what it is about, is gone or damaged.
        """
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job) or JobStatus(row.status) in FINISHED:
                return False
            folder = self.home.job(job.id, job.attempt)
            take_in(session, row, folder)
            if status == JobStatus.SUCCEEDED and job.kind in KINDS:
                publish(folder, KINDS[job.kind].outputs(self.home, job.payload))
                for made in artefacts_of(KINDS[job.kind], self.home, job.payload):
                    self.home.artefacts.pend(made)
            why = values.get("error") or values.get("progress_text") or ""
            if not move(session, row, status, f"worker {job.worker}", why, finished_at=now, **values):
                return False
            if status == JobStatus.SUCCEEDED:
                row.progress = 1.0
                if job.kind in KINDS:
                    _write_result(session, row, self.home.near)
        if status == JobStatus.SUCCEEDED and job.kind in KINDS:
            for folder in KINDS[job.kind].spent(self.home, job.payload):
                self.home.artefacts.forget(folder)
        if values.get("error_kind") != DAMAGED:  # what is damaged is kept as it is
            self._forget_metrics(job.id)
        if job.kind in KINDS and KINDS[job.kind].resumes:
            self.home.artefacts.pend_drop(self.home.attempts(job.id))
        return True

    def _forget_metrics(self, job_id: int) -> None:
        """Remove the files with numbers of steps of a job that has ended, as far as its rows hold them, and what its
        attempts had made to be published; not its log."""
        job = self.get(job_id)
        for made in self.home.attempts(job_id).glob(f"*/{OUT}") if job.is_finished else ():
            remove(made)
        for file in self.home.attempts(job_id).glob(f"*/{METRICS}"):
            try:
                is_stored = file.parent.name != str(job.attempt) or file.stat().st_size <= job.metrics_offset
                if job.is_finished and is_stored:
                    file.unlink(missing_ok=True)
            except OSError as error:
                LOG.warning("%s of job %d stays: %s", file.name, job_id, error.strerror)

    def log_tail(self, job: Job, limit: int = 12_000) -> str:
        """The last ``limit`` bytes of a job's log."""
        path = self.home.job(job.id, job.attempt) / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit))
            return without_paths(file.read().decode("utf-8", "replace"))

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
        self._forget_metrics(job.id)

    def stop(self, job_id: int) -> Job:
        """Ask for a stop: a waiting job ends at once, a running one saves its state first.

        Raises:
            UserError: When the job has finished already.
        """
        self.get(job_id)  # one that does not exist is told before anything is written
        now = time.time()
        with self._rows.writing() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            waiting, who = row is not None and row.status == JobStatus.QUEUED, actor(self._rows.user)
            if row is not None and waiting:
                words = "Stopped before it began" if row.attempt == 0 else "Stopped"
                move(session, row, JobStatus.STOPPED, who, "Asked to stop.", finished_at=now, progress_text=words)
            elif row is not None and row.status == JobStatus.RUNNING:
                asked = {"stop_requested_at": now, "progress_text": "Stopping"}
                move(session, row, JobStatus.STOPPING, who, "Asked to stop.", **asked)
        job = self.get(job_id)
        if job.is_finished and not waiting:
            raise UserError(f"Job {job_id} has already finished ({job.status}) and cannot be stopped.")
        self._forget_metrics(job_id)
        return job

    def events(self, job_id: int) -> list[Event]:
        """What has become of a job, oldest first."""
        with self._rows.reading() as session:
            return events_of(session, [job_id])

    def silent_since(self, job: Job) -> float | None:
        """When an active job was last heard of, in seconds since 1970, where that is longer ago than its own process
        takes between two signs of life; None where it was heard of lately, or is not active."""
        query = select(JobRow.silent_since).where(JobRow.id == job.id, JobRow.attempt == job.attempt)
        with self._rows.reading() as session:
            return session.scalar(query)

    def orphans(self, me: str, is_ours: Callable[[Job], bool]) -> list[Job]:
        """Running jobs of this machine, as ``is_ours`` tells, of another (earlier) worker, or whose lease is over."""
        query = select(JobRow, JobRow.lease_until < database_now()).where(JobRow.status.in_(ACTIVE)).order_by(JobRow.id)
        with self._rows.reading() as session:
            active = [(Job.of(row), bool(is_over)) for row, is_over in session.execute(query)]
        return [job for job, is_over in active if (job.worker != me and is_ours(job)) or is_over]

    def sign_in(
        self, name: str, host: str, process: dict[str, Any], version: str = "", place: dict[str, Any] | None = None
    ) -> None:
        """A worker's sign of life; ``place`` says ``devices``, ``memory`` (bytes) and ``address`` of its machine."""
        row = WorkerRow(name=name, host=host, process=process, version=version, **(place or {}))
        row.seen_at = database_now()
        with self._rows.writing() as session:
            session.merge(row)

    def sign_out(self, name: str) -> None:
        """A worker ends orderly."""
        with self._rows.writing() as session:
            row = session.get(WorkerRow, name)
            if row is not None:
                session.delete(row)

    def workers(self) -> list[dict[str, Any]]:
        """Workers seen lately."""
        columns = ("name", "host", "process", "seen_at", "version", "devices", "memory", "address")
        with self._rows.reading() as session:
            rows = session.scalars(select(WorkerRow).where(lately(WorkerRow.seen_at, WORKER_GONE_SECONDS)))
            return [{column: getattr(row, column) for column in columns} for row in rows]

    def has_waiting(self, lane: str) -> bool:
        """Whether a job of this lane waits for its turn, and would begin if it came."""
        waits = (JobRow.status == JobStatus.QUEUED, JobRow.lane == lane, *can_begin())
        query = select(JobRow.id).where(*waits).limit(1)
        with self._rows.reading() as session:
            return session.scalar(query) is not None

    def waiting_kinds(self) -> dict[str, set[str]]:
        """The kinds of the jobs that could be claimed now, by lane."""
        waits = (JobRow.status == JobStatus.QUEUED, *can_begin())
        with self._rows.reading() as session:
            found = session.execute(select(JobRow.lane, JobRow.kind).where(*waits).distinct()).all()
        kinds: dict[str, set[str]] = {}
        for lane, kind in found:
            kinds.setdefault(lane, set()).add(kind)
        return kinds

    def counts(self) -> dict[str, int]:
        """How many jobs wait and how many run."""
        query = select(JobRow.status, func.count()).where(JobRow.status.not_in(FINISHED)).group_by(JobRow.status)
        with self._rows.reading() as session:
            found = {status: count for status, count in session.execute(query)}
        return {
            "queued": found.get(JobStatus.QUEUED, 0),
            "running": sum(found.get(status, 0) for status in ACTIVE),
        }


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
