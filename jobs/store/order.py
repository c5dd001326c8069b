"""The order in which waiting jobs begin, and what people change about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.store.changes import tell, topics_of_job
from jobs.store.events import actor, move
from jobs.store.records import Job
from jobs.store.retrying import may_begin
from jobs.store.rows import Rows
from jobs.store.status import FINISHED, JobStatus
from jobs.store.tables import DependencyRow, JobRow, find_row
from jobs.visitor import NOBODY

Place = Literal["first", "last", "up", "down"]
PLACES: dict[str, Callable[[int, int], int]] = {  # from a place among so many to another
    "first": lambda place, number: 0,
    "last": lambda place, number: number - 1,
    "up": lambda place, number: max(0, place - 1),
    "down": lambda place, number: min(number - 1, place + 1),
}


def in_turn(lane: str) -> Select[Any]:
    """Ids of the waiting jobs of a lane in the order in which they begin.

    Higher priority comes first; then the turn is the visitor's whose last job in this lane started longest ago, and
    each one's oldest job comes first.
    """
    earlier = aliased(JobRow)
    served = select(func.max(earlier.started_at)).where(earlier.lane == lane, earlier.visitor == JobRow.visitor)
    query = select(JobRow.id).where(JobRow.status == JobStatus.QUEUED, JobRow.lane == lane)
    return query.order_by(JobRow.priority.desc(), func.coalesce(served.scalar_subquery(), 0.0), JobRow.id)


def can_begin() -> tuple[ColumnElement[bool], ...]:
    """What must hold of a waiting job: its pause is over, nobody holds it, and what it comes after has succeeded."""
    return may_begin(), JobRow.held.is_(False), ~_waits_for(JobRow, lambda other: other.status != JobStatus.SUCCEEDED)


def _waits_for(job: Any, which: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    other = aliased(JobRow)
    query = select(DependencyRow.job_id).join(other, other.id == DependencyRow.after_id)
    return exists(query.where(DependencyRow.job_id == job.id, which(other)).correlate(job))


def next_of(lane: str, not_yet: Collection[str], machine: str) -> Any:
    """The id of the job of a lane that begins next on a machine, as a sub-select; those of the kinds ``not_yet``, and
    servers for those who sit at another machine, go on waiting."""
    anywhere = or_(JobRow.lane != "server", JobRow.host.is_(None))
    here = or_(anywhere, JobRow.host == machine, JobRow.host.startswith(f"{machine}/", autoescape=True))
    query = in_turn(lane).where(JobRow.kind.not_in(not_yet), here, *can_begin())
    return query.limit(1).with_for_update(skip_locked=True).scalar_subquery()


def depend(session: Session, row: JobRow, after: Iterable[int]) -> None:
    """Let a job begin only once others have succeeded.

    Raises:
        UserError: When one does not exist, has ended otherwise, or waits for this one itself.
    """
    for other_id in dict.fromkeys(after):
        other = find_row(session, JobRow, other_id)
        if other is None:
            raise UserError(f"Job {shown(other_id)} does not exist.")
        if JobStatus(other.status) in FINISHED and other.status != JobStatus.SUCCEEDED:
            raise UserError(f"Job {other_id} has ended ({other.status}), so nothing can begin after it.")
        if row.id in _all_before(session, other_id):
            raise UserError(f"Job {other_id} begins after job {row.id} itself. Choose another.")
        session.merge(DependencyRow(job_id=row.id, after_id=other_id))
    tell(session, *topics_of_job(row.kind, row.run_id, row.corpus_id))


def _all_before(session: Session, job_id: int) -> set[int]:
    """A job, and all that must have succeeded before it."""
    found, new = set[int](), {job_id}
    while new:
        found |= new
        query = select(DependencyRow.after_id).where(DependencyRow.job_id.in_(new))
        new = set(session.scalars(query)) - found
    return found


class Order:
    """What people change about waiting jobs: their order, whether they are held, and what they come after."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def waiting(self, lane: str) -> list[Job]:
        """The waiting jobs of a lane in the order in which they begin, those among them that cannot yet."""
        with self._rows.reading() as session:
            ids = list(session.scalars(in_turn(lane)))
            rows = {row.id: row for row in session.scalars(select(JobRow).where(JobRow.id.in_(ids)))}
            return [Job.of(rows[job_id]) for job_id in ids if job_id in rows]

    def after(self, job_ids: Collection[int]) -> dict[int, list[int]]:
        """For each of some jobs that come after others, the ids of those that have not succeeded yet."""
        query = select(DependencyRow.job_id, DependencyRow.after_id).join(JobRow, JobRow.id == DependencyRow.after_id)
        query = query.where(DependencyRow.job_id.in_(job_ids), JobRow.status != JobStatus.SUCCEEDED)
        found: dict[int, list[int]] = {}
        with self._rows.reading() as session:
            for job_id, other in session.execute(query.order_by(DependencyRow.after_id)):
                found.setdefault(job_id, []).append(other)
        return found

    def move(self, job_id: int, place: str) -> None:
        """Let a waiting job begin ``first``, ``last``, or one place further ``up`` or ``down`` among those of its lane.

        All of them keep the order that they have then; what is queued later comes after them.

        Raises:
            UserError: When there is no such place, or the job does not wait.
        """
        if place not in PLACES:
            raise UserError(f"There is no place called {shown(place)}. Choose one of: {', '.join(PLACES)}.")
        with self._rows.writing() as session:
            row = _waiting(session, job_id)
            ids = list(session.scalars(in_turn(row.lane)))
            at = ids.index(job_id)
            ids.insert(PLACES[place](at, len(ids)), ids.pop(at))
            for number, other in enumerate(reversed(ids), 1):
                session.get_one(JobRow, other).priority = number

    def hold(self, job_id: int, *, held: bool = True) -> None:
        """Keep a waiting job from beginning until it is released, or release it.

        Raises:
            UserError: When it does not wait.
        """
        with self._rows.writing() as session:
            _waiting(session, job_id).held = held

    def put_after(self, job_id: int, others: Iterable[int]) -> None:
        """Let a waiting job begin only once others have succeeded.

        Raises:
            UserError: When it does not wait, or one of the others cannot come before it.
        """
        with self._rows.writing() as session:
            depend(session, _waiting(session, job_id), others)

    def end_hopeless(self) -> None:
        """Stop waiting jobs that come after one which has ended without success."""
        ended = [status for status in FINISHED if status != JobStatus.SUCCEEDED]
        hopeless = _waits_for(JobRow, lambda other: other.status.in_(ended))
        query = select(JobRow.id).where(JobRow.status == JobStatus.QUEUED, hopeless)
        with self._rows.reading() as session:
            ids = list(session.scalars(query))
        for job_id in ids:
            with self._rows.writing() as session:
                _stop_hopeless(session, session.get_one(JobRow, job_id, with_for_update=True), ended)


def _stop_hopeless(session: Session, row: JobRow, ended: Iterable[JobStatus]) -> None:
    query = select(JobRow).join(DependencyRow, DependencyRow.after_id == JobRow.id)
    other = session.scalars(query.where(DependencyRow.job_id == row.id, JobRow.status.in_(ended))).first()
    if other is not None:
        words = (
            f"It was to begin after job {other.id}, which ended {other.status}. Start it again once that has succeeded."
        )
        move(session, row, JobStatus.STOPPED, actor(NOBODY), words, finished_at=time.time(), progress_text=words)


def _waiting(session: Session, job_id: int) -> JobRow:
    """The row of a waiting job.

    Raises:
        UserError: When there is none, or it does not wait any more.
    """
    row = find_row(session, JobRow, job_id)
    if row is None:
        raise UserError(f"Job {shown(job_id)} does not exist.")
    if row.status != JobStatus.QUEUED:
        raise UserError(f"Job {job_id} does not wait ({row.status}), so its turn cannot be changed.")
    return row
