"""What the parts of the store share: sessions over one database for one user, and copies of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Update, select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from hydralora.plain import UNSHOWN, one_line, shown
from jobs.store.changes import WritingSession
from jobs.store.database import reading, writing
from jobs.store.records import Job, Record
from jobs.store.status import FINISHED
from jobs.store.tables import JobRow, find_row
from jobs.visitor import current_visitor

NAME_LIMIT = 80
Stored = TypeVar("Stored", bound=Record)


class Rows:
    """One database, on behalf of one user; None is whoever the running code works for (see ``jobs.visitor``)."""

    def __init__(self, engine: Engine, user: str | None = None) -> None:
        self.engine, self.read_engine, self.write_engine = engine, reading(engine), writing(engine)
        self._user = user

    @property
    def user(self) -> str:
        """Whose wish the next write is."""
        return current_visitor() if self._user is None else self._user

    def reading(self) -> Session:
        """A session that only reads, all of one moment, as a context."""
        return Session(self.read_engine)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose writes take effect together when the block ends without an error, told to who looks."""
        with WritingSession(self.write_engine) as session, session.begin():
            yield session
            session.raise_numbers()

    def one(self, table: Any, record: type[Stored], row_id: int, word: str) -> Stored:
        """A copy of one row with its job; UserError when it does not exist."""
        with self.reading() as session:
            row = row_of(session, table, row_id, word)
            return record.of(row, job=job_of(session, row.job_id))

    def newest_first(
        self, table: Any, record: type[Stored], most: int | None = None, where: Sequence[ColumnElement[bool]] = ()
    ) -> list[Stored]:
        """Copies of the rows that meet all conditions (of the newest ``most``) with their jobs, in one statement."""
        own, of_job = table.__table__.columns, JobRow.__table__.columns
        jobs = [*(column.label(f"job_{column.name}") for column in of_job), JobRow.silent_since.label("job_silent")]
        query = select(*own, *jobs)  # plain values: no row is kept
        query = query.outerjoin(JobRow, JobRow.id == table.job_id).where(*where)
        query = query.order_by(table.id.desc()).limit(most)
        names, job_names = [column.name for column in own], [*(column.name for column in of_job), "silent_since"]
        with self.reading() as session:
            found = session.connection().execute(query).all()
        copies = []
        for values in found:
            row = SimpleNamespace(**dict(zip(names, values, strict=False)))
            job = SimpleNamespace(**dict(zip(job_names, values[len(names) :], strict=True)))
            copies.append(record.of(row, job=None if job.id is None else Job.of(job)))
        return copies

    def rename(self, table: Any, row_id: int, name: str, word: str) -> None:
        """Give a row another name."""
        with self.writing() as session:
            row_of(session, table, row_id, word).name = clean_name(name)


def row_of(session: Session, table: Any, row_id: int, word: str) -> Any:
    """The row with this id; UserError, in which the row is called ``word``, when it does not exist."""
    row = find_row(session, table, row_id)
    if row is None:
        raise UserError(f"{word} {shown(row_id)} does not exist. It may have been deleted.")
    return row


def job_of(session: Session, job_id: int | None) -> Job | None:
    """A copy of a job, or None."""
    row = find_row(session, JobRow, job_id)
    return Job.of(row) if row else None


def changed(session: Session, statement: Update) -> int:
    """Run an update; how many rows it changed."""
    return session.connection().execute(statement).rowcount


def jobs_with(session: Session, where: Any) -> list[int]:
    """Ids of the jobs that meet a condition."""
    return list(session.scalars(select(JobRow.id).where(where)))


def refuse_busy(session: Session, where: Any, what: str) -> None:
    """UserError when a job that has not ended meets the condition ``where``."""
    busy = session.scalar(select(JobRow.id).where(where, JobRow.status.not_in(FINISHED)).limit(1))
    if busy:
        raise UserError(f"{what} is in use by job {busy}. Stop that job first.")


def clean_name(name: str) -> str:
    """A name without control characters, at most ``NAME_LIMIT`` long.

    Raises:
        UserError: When nothing is left.
    """
    kept = one_line(UNSHOWN.sub(" ", name))[:NAME_LIMIT].strip()
    if not kept:
        raise UserError("The name is empty. Give it one.")
    return kept
