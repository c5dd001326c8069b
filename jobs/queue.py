"""The queue: claim, lease, finish. Every write of a worker names its attempt.

Promises:

- A queued job is claimed by exactly one worker, whatever their number.
- A worker that lost its lease changes nothing more: its writes ask for worker and attempt.
- A finished job never changes.
- Light jobs (import, cluster, analyse) have their own lane and never wait behind training.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.database import writing
from jobs.records import Job
from jobs.status import ACTIVE, FINISHED, JobStatus
from jobs.tables import Jobs, Workers

LANES = {"ingest": "light", "import": "light", "cluster": "light", "routing": "light", "weights": "light", "map": "light", "experts": "light", "compare": "light", "answers": "light", "export": "light",
         "train": "heavy", "speed": "heavy", "serve": "server"}  # fmt: skip
LEASE_SECONDS = 60.0
WORKER_GONE_SECONDS = 15.0  # without a sign of life


class Queue:
    """All reads and writes of jobs."""

    def __init__(self, engine: Engine, lanes: dict[str, str] | None = None) -> None:
        self.engine, self.write_engine = engine, writing(engine)
        self.lanes = lanes or LANES

    def add(
        self, session: Session, kind: str, payload: dict[str, Any] | None = None, *,
        corpus_id: int | None = None, run_id: int | None = None, max_attempts: int = 3, priority: int = 0,
    ) -> Jobs:  # fmt: skip
        """Put a job into the queue within the caller's transaction."""
        row = Jobs(kind=kind, lane=self.lanes[kind], payload=payload or {}, corpus_id=corpus_id,
                   run_id=run_id, max_attempts=max_attempts, priority=priority)  # fmt: skip
        session.add(row)
        session.flush()
        return row

    def submit(self, kind: str, payload: dict[str, Any] | None = None, **links: Any) -> Job:
        """Put a job into the queue by itself."""
        with Session(self.write_engine) as session, session.begin():
            return Job.of(self.add(session, kind, payload, **links))

    def get(self, job_id: int) -> Job:
        """One job.

        Raises:
            UserError: When it does not exist.
        """
        with Session(self.engine) as session:
            row = session.get(Jobs, job_id)
            if row is None:
                raise UserError(f"Job {job_id} does not exist.")
            return Job.of(row)

    def jobs(self, *, statuses: Iterable[str] | None = None, kind: str | None = None, limit: int = 100) -> list[Job]:
        """Jobs, newest first."""
        query = select(Jobs).order_by(Jobs.id.desc()).limit(limit)
        if statuses is not None:
            query = query.where(Jobs.status.in_(list(statuses)))
        if kind is not None:
            query = query.where(Jobs.kind == kind)
        with Session(self.engine) as session:
            return [Job.of(row) for row in session.scalars(query)]

    def claim(self, worker: str, host: str, lane: str) -> Job | None:
        """Take the oldest waiting job of a lane, or None.

        One statement; the state is asked for again outside the sub-select, so that two workers
        that saw the same job cannot both have it.
        """
        now = time.time()
        oldest = (
            select(Jobs.id)
            .where(Jobs.status == JobStatus.QUEUED, Jobs.lane == lane, Jobs.not_before <= now)
            .order_by(Jobs.priority.desc(), Jobs.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claim = (
            update(Jobs)
            .where(Jobs.id == oldest, Jobs.status == JobStatus.QUEUED)
            .values(status=JobStatus.RUNNING, worker=worker, host=host, attempt=Jobs.attempt + 1,
                    lease_until=now + LEASE_SECONDS, started_at=now, progress=0.0, metrics_offset=0,
                    progress_text="Starting", process=None)
            .returning(Jobs.id)
        )  # fmt: skip
        with self.write_engine.begin() as connection:
            taken = connection.execute(claim).scalar()
        return self.get(taken) if taken is not None else None

    def write(self, job: Job, **values: Any) -> bool:
        """Change a running job on behalf of its worker; False when it is no longer theirs."""
        statement = (
            update(Jobs)
            .where(Jobs.id == job.id, Jobs.worker == job.worker, Jobs.attempt == job.attempt,
                   Jobs.status.in_(ACTIVE))
            .values(**values)
        )  # fmt: skip
        with self.write_engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def renew(self, job: Job, **values: Any) -> bool:
        """Renew the lease, with news of the progress."""
        return self.write(job, lease_until=time.time() + LEASE_SECONDS, **values)

    def adopt(self, job: Job, worker: str) -> Job | None:
        """Take over a job whose worker died while its process lives; None when another was first."""
        statement = (
            update(Jobs)
            .where(Jobs.id == job.id, Jobs.attempt == job.attempt, Jobs.worker == job.worker,
                   Jobs.status.in_(ACTIVE))
            .values(worker=worker, lease_until=time.time() + LEASE_SECONDS)
        )  # fmt: skip
        with self.write_engine.begin() as connection:
            done = connection.execute(statement).rowcount == 1
        return self.get(job.id) if done else None

    def give_back(self, job: Job, why: str) -> None:
        """A process vanished: queue the job again, or call it lost after its last attempt."""
        if job.stop_requested_at is not None:
            self.write(job, status=JobStatus.STOPPED, finished_at=time.time(),
                       progress_text="Stopped")  # fmt: skip
        elif job.attempt < job.max_attempts:
            self.write(job, status=JobStatus.QUEUED, worker=None, process=None,
                       not_before=time.time() + 2.0 ** (job.attempt - 1), progress_text=why)  # fmt: skip
        else:
            self.write(job, status=JobStatus.LOST, finished_at=time.time(), error_kind="lost",
                       error=f"{why} This happened {job.attempt} times, so it is not tried again. "
                       "Look at the log, then resume it.")  # fmt: skip

    def stop(self, job_id: int) -> Job:
        """Ask for a stop: a waiting job ends at once, a running one saves its state first.

        Raises:
            UserError: When the job has finished already.
        """
        now = time.time()
        with self.write_engine.begin() as connection:
            waiting = connection.execute(
                update(Jobs)
                .where(Jobs.id == job_id, Jobs.status == JobStatus.QUEUED)
                .values(status=JobStatus.STOPPED, finished_at=now, progress_text="Stopped before it began")
            ).rowcount
            if not waiting:
                connection.execute(
                    update(Jobs)
                    .where(Jobs.id == job_id, Jobs.status == JobStatus.RUNNING)
                    .values(status=JobStatus.STOPPING, stop_requested_at=now, progress_text="Stopping")
                )
        job = self.get(job_id)
        if job.is_finished and not waiting:
            raise UserError(f"Job {job_id} has already finished ({job.status}) and cannot be stopped.")
        return job

    def orphans(self, host: str, me: str) -> list[Job]:
        """Running jobs of this host that belong to another (earlier) worker, or whose lease is over."""
        now = time.time()
        return [job for job in self.jobs(statuses=ACTIVE, limit=1000)
                if (job.host == host and job.worker != me) or job.lease_until < now]  # fmt: skip

    def sign_in(self, name: str, host: str, process: dict[str, Any]) -> None:
        """A worker's sign of life."""
        with Session(self.write_engine) as session, session.begin():
            session.merge(Workers(name=name, host=host, process=process, seen_at=time.time()))

    def sign_out(self, name: str) -> None:
        """A worker ends orderly."""
        with Session(self.write_engine) as session, session.begin():
            row = session.get(Workers, name)
            if row is not None:
                session.delete(row)

    def workers(self) -> list[dict[str, Any]]:
        """Workers seen lately."""
        since = time.time() - WORKER_GONE_SECONDS
        with Session(self.engine) as session:
            rows = session.scalars(select(Workers).where(Workers.seen_at > since))
            return [{"name": r.name, "host": r.host, "process": r.process, "seen_at": r.seen_at} for r in rows]

    def has_waiting(self, lane: str) -> bool:
        """Whether a job of this lane waits for its turn."""
        query = select(Jobs.id).where(Jobs.status == JobStatus.QUEUED, Jobs.lane == lane).limit(1)
        with Session(self.engine) as session:
            return session.scalar(query) is not None

    def counts(self) -> dict[str, int]:
        """How many jobs wait and how many run."""
        jobs = self.jobs(statuses=[s for s in JobStatus if s not in FINISHED], limit=1000)
        return {"queued": sum(j.status == JobStatus.QUEUED for j in jobs), "running": sum(j.is_active for j in jobs)}
