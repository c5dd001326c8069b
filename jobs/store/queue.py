"""The queue: what people and pages put into it, ask of it, and stop (what workers do is in ``jobs.store.attempts``).

Promises:

- A finished job never changes.
- Light jobs (import, cluster, analyse) have their own lane and never wait behind training.
- Visitors take turns: sixty jobs of one do not keep another's waiting.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.home import Home
from jobs.kinds import kind_of
from jobs.store.events import actor, events_of, move, note
from jobs.store.order import can_begin, depend
from jobs.store.publishing import forget_metrics
from jobs.store.records import Event, Job
from jobs.store.rows import Rows
from jobs.store.status import ACTIVE, FINISHED, JobStatus
from jobs.store.tables import EventRow, JobRow, find_row
from jobs.visitor import NOBODY

LOG = logging.getLogger(__name__)
MOST_WAITING = 200  # jobs of one visitor of the page


class Queue:
    """Jobs as those see them who have queued them."""

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
        forget_metrics(self.home, job)
        return job

    def events(self, job_id: int) -> list[Event]:
        """What has become of a job, oldest first."""
        with self._rows.reading() as session:
            return events_of(session, [job_id])

    def newest_event(self) -> int:
        """The number of the last move of any job; 0 where there was none."""
        with self._rows.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    def ended_after(self, event: int, most: int) -> list[tuple[int, Event, Job]]:
        """Ends of jobs that came after an event, oldest first: number of the event, event, job."""
        query = select(EventRow, JobRow).join(JobRow, JobRow.id == EventRow.job_id)
        query = query.where(EventRow.id > event, EventRow.after.in_(FINISHED)).order_by(EventRow.id).limit(most)
        with self._rows.reading() as session:
            return [(row.id, Event.of(row), Job.of(job)) for row, job in session.execute(query)]

    def silent_since(self, job: Job) -> float | None:
        """When an active job was last heard of, in seconds since 1970, where that is longer ago than its own process
        takes between two signs of life; None where it was heard of lately, or is not active."""
        query = select(JobRow.silent_since).where(JobRow.id == job.id, JobRow.attempt == job.attempt)
        with self._rows.reading() as session:
            return session.scalar(query)

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
