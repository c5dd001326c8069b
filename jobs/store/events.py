"""Moves of jobs: each is one that ``jobs.store.status.NEXT`` allows, and is written down with who made it and why."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jobs.store.changes import tell, topics_of_job
from jobs.store.records import Event
from jobs.store.status import NEXT, JobStatus
from jobs.store.tables import EventRow, JobRow
from jobs.visitor import NOBODY

STUDIO = "command or studio"  # who nobody on a page stands behind


def actor(visitor: str) -> str:
    """Who asks, for people: pages do not tell their visitors apart."""
    return STUDIO if visitor == NOBODY else "page"


def move(session: Session, row: JobRow, status: JobStatus, who: str, why: str, **values: Any) -> bool:
    """Give a job another status together with other columns; False when that move is not allowed, or somebody else has
    moved it since ``row`` was read. The row is then as it is in the database."""
    session.flush()
    allowed = [before for before, following in NEXT.items() if status in following]
    before, attempt = row.status, row.attempt
    statement = (
        update(JobRow)
        .where(JobRow.id == row.id, JobRow.attempt == attempt, JobRow.worker.is_not_distinct_from(row.worker))
        .where(JobRow.status == before, JobRow.status.in_(allowed))
        .values(status=status, **values)
        .execution_options(synchronize_session=False)
    )
    moved = session.connection().execute(statement).rowcount == 1
    session.refresh(row)
    if moved:
        note(session, row.id, attempt, (before, status), who, why)
        tell(session, *topics_of_job(row.kind, row.run_id, row.corpus_id))
    return moved


def note(session: Session, job_id: int, attempt: int, states: tuple[str | None, str], who: str, why: str) -> None:
    """Write down that a job has come from the first status to the second; from None into the queue."""
    before, after = states
    session.add(EventRow(job_id=job_id, attempt=attempt, before=before, after=after, who=who, why=why))


def events_of(session: Session, job_ids: list[int]) -> list[Event]:
    """What has become of some jobs, oldest first."""
    query = select(EventRow).where(EventRow.job_id.in_(job_ids)).order_by(EventRow.id)
    return [Event.of(row) for row in session.scalars(query)]
