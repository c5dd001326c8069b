"""The queue: claim, lease, finish. Every write of a worker names its attempt.

Promises:

- A queued job is claimed by exactly one worker, whatever their number.
- A worker that lost its lease changes nothing more: its writes ask for worker and attempt.
- A finished job never changes.
- Light jobs (import, cluster, analyse) have their own lane and never wait behind training.
- Visitors take turns: sixty jobs of one do not keep another's waiting.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from hydralora.errors import CorpusError, DamagedError, ResultError, UserError
from hydralora.plain import shown, without_paths
from jobs.home import Home
from jobs.kinds import KINDS, kind_of
from jobs.store.changes import WORKER_GONE_SECONDS, tell, topics_of_job
from jobs.store.events import actor, events_of, move, note
from jobs.store.metrics import FILE as METRICS
from jobs.store.records import Event, Job
from jobs.store.rows import Rows, changed
from jobs.store.status import ACTIVE, FINISHED, JobStatus
from jobs.store.steps import take_in
from jobs.store.tables import JobRow, WorkerRow, find_row
from jobs.visitor import NOBODY

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 60.0
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
    ) -> JobRow:
        """Put a job into the queue within the caller's transaction.

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
        """Take the next waiting job of a lane, or None: visitors take turns, and each one's oldest job comes first.
        Jobs of the kinds ``not_yet`` go on waiting.

        The turn is the visitor's whose last job in this lane started longest ago. One statement; the state is asked
        for again outside the sub-select, so that two workers that saw the same job cannot both have it.
        """
        now = time.time()
        earlier = aliased(JobRow)
        served = select(func.max(earlier.started_at)).where(earlier.lane == lane, earlier.visitor == JobRow.visitor)
        following = (
            select(JobRow.id)
            .where(JobRow.status == JobStatus.QUEUED, JobRow.lane == lane, JobRow.not_before <= now)
            .where(JobRow.kind.not_in(not_yet))
            .order_by(JobRow.priority.desc(), func.coalesce(served.scalar_subquery(), 0.0), JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claim = (
            update(JobRow)
            .where(JobRow.id == following, JobRow.status == JobStatus.QUEUED)
            .values(
                status=JobStatus.RUNNING,
                worker=worker,
                host=host,
                attempt=JobRow.attempt + 1,
                fruitless=JobRow.fruitless + 1,
                lease_until=now + LEASE_SECONDS,
                started_at=now,
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
        """Renew the lease, with news of the progress."""
        return self.write(job, lease_until=time.time() + LEASE_SECONDS, **values)

    def adopt(self, job: Job, worker: str) -> Job | None:
        """Take over a job whose worker died while its process lives; None when another was first."""
        statement = (
            update(JobRow)
            .where(
                JobRow.id == job.id,
                JobRow.attempt == job.attempt,
                JobRow.worker == job.worker,
                JobRow.status.in_(ACTIVE),
            )
            .values(worker=worker, lease_until=time.time() + LEASE_SECONDS)
        )
        with self._rows.writing() as session:
            done = changed(session, statement) == 1
        return self.get(job.id) if done else None

    def finish(self, job: Job, status: JobStatus, now: float, **values: Any) -> bool:
        """End a job and write its result where its kind says, in one transaction; False when it is no longer theirs."""
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job) or JobStatus(row.status) in FINISHED:
                return False
            take_in(session, row, self.home.job(job.id, job.attempt))
            why = values.get("error") or values.get("progress_text") or ""
            if not move(session, row, status, f"worker {job.worker}", why, finished_at=now, **values):
                return False
            if status == JobStatus.SUCCEEDED:
                row.progress = 1.0
                if job.kind in KINDS:
                    _write_result(session, row, self.home)
        if status == JobStatus.SUCCEEDED and job.kind in KINDS:
            for folder in KINDS[job.kind].spent(self.home, job.payload):
                shutil.rmtree(folder, ignore_errors=True)
        if values.get("error_kind") != DAMAGED:  # what is damaged is kept as it is
            self._forget_metrics(job.id)
        return True

    def _forget_metrics(self, job_id: int) -> None:
        """Remove the files with numbers of steps of a job that has ended, as far as its rows hold them; not its log."""
        job = self.get(job_id)
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

    def give_back(self, job: Job, why: str, *, interrupted: bool = False) -> None:
        """A process has gone without a result: queue the job again, or call it lost.

        It is lost after ``max_attempts`` in a row that came not one step further than those before. One that was
        ``interrupted``, as when the machine shuts down, does not count. What a user has asked to stop is stopped.
        """
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id, with_for_update=True)
            if row is None or not is_held(row, job) or JobStatus(row.status) not in ACTIVE:
                return
            take_in(session, row, self.home.job(job.id, job.attempt))
            _give_back(session, row, f"worker {job.worker}", why, interrupted)
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

    def orphans(self, me: str, is_ours: Callable[[Job], bool]) -> list[Job]:
        """Running jobs of this machine, as ``is_ours`` tells, of another (earlier) worker, or whose lease is over."""
        now = time.time()
        return [
            job
            for job in self.jobs(statuses=ACTIVE, limit=1000)
            if (job.worker != me and is_ours(job)) or job.lease_until < now
        ]

    def sign_in(self, name: str, host: str, process: dict[str, Any]) -> None:
        """A worker's sign of life."""
        with self._rows.writing() as session:
            session.merge(WorkerRow(name=name, host=host, process=process, seen_at=time.time()))

    def sign_out(self, name: str) -> None:
        """A worker ends orderly."""
        with self._rows.writing() as session:
            row = session.get(WorkerRow, name)
            if row is not None:
                session.delete(row)

    def workers(self) -> list[dict[str, Any]]:
        """Workers seen lately."""
        since = time.time() - WORKER_GONE_SECONDS
        with self._rows.reading() as session:
            rows = session.scalars(select(WorkerRow).where(WorkerRow.seen_at > since))
            return [{"name": r.name, "host": r.host, "process": r.process, "seen_at": r.seen_at} for r in rows]

    def has_waiting(self, lane: str) -> bool:
        """Whether a job of this lane waits for its turn."""
        query = select(JobRow.id).where(JobRow.status == JobStatus.QUEUED, JobRow.lane == lane).limit(1)
        with self._rows.reading() as session:
            return session.scalar(query) is not None

    def waiting_kinds(self) -> dict[str, set[str]]:
        """The kinds of the jobs that could be claimed now, by lane."""
        waits = (JobRow.status == JobStatus.QUEUED, JobRow.not_before <= time.time())
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


def _give_back(session: Session, row: JobRow, who: str, why: str, interrupted: bool) -> None:
    now, fruitless = time.time(), row.fruitless
    if row.stop_requested_at is not None:
        move(session, row, JobStatus.STOPPED, who, why, finished_at=now, progress_text="Stopped")
        return
    if fruitless >= row.max_attempts and not interrupted:
        times = f"{fruitless} times without a step further" if row.reached else f"{fruitless} times"
        error = f"{why} This happened {times}, so it is not tried again. Look at the log, then resume it."
        move(session, row, JobStatus.LOST, who, why, finished_at=now, error_kind="lost", error=error)
        return
    pause = 0.0 if interrupted or not fruitless else 2.0 ** (fruitless - 1)
    again = {"worker": None, "process": None, "not_before": now + pause, "progress_text": why}
    if interrupted:
        again["fruitless"] = max(0, fruitless - 1)
    move(session, row, JobStatus.QUEUED, who, why, **again)


def is_held(row: JobRow, job: Job) -> bool:
    """Whether the worker of this copy still has the job, at the same attempt."""
    return (row.worker, row.attempt) == (job.worker, job.attempt)
