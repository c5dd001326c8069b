"""What the parts of the store share: the engine, copies of rows, names, and files taken in."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.chats import Chats
from jobs.database import migrate, open_engine, writing
from jobs.home import Home
from jobs.queue import Queue
from jobs.records import Job, Record
from jobs.speeds import Speeds
from jobs.status import FINISHED
from jobs.tables import Jobs

NAME_LIMIT = 80
Stored = TypeVar("Stored", bound=Record)


class Rows:
    """A database and the folder beside it; ``queue``, ``chats`` and ``speeds`` beside them."""

    def __init__(self, home: Home, engine: Engine | None = None) -> None:
        self.home = home
        if engine is None:
            migrate(home.database_url)
        self.engine = engine or open_engine(home.database_url)
        self.write_engine = writing(self.engine)
        self.queue = Queue(self.engine)
        self.chats = Chats(self.engine)
        self.speeds = Speeds(self.engine, self.queue)

    def _job(self, session: Session, job_id: int | None) -> Job | None:
        row = session.get(Jobs, job_id) if job_id else None
        return Job.of(row) if row else None

    def _get(self, session: Session, table: Any, row_id: int, word: str) -> Any:
        row = session.get(table, row_id)
        if row is None:
            raise UserError(f"{word} {row_id} does not exist. It may have been deleted.")
        return row

    def _one(self, table: Any, record: type[Stored], row_id: int, word: str) -> Stored:
        """A copy of one row with its job; UserError when it does not exist."""
        with Session(self.engine) as session:
            row = self._get(session, table, row_id, word)
            return record.of(row, job=self._job(session, row.job_id))

    def _newest_first(self, table: Any, record: type[Stored]) -> list[Stored]:
        """Copies of all rows with their jobs."""
        with Session(self.engine) as session:
            rows = session.scalars(select(table).order_by(table.id.desc())).all()
            return [record.of(row, job=self._job(session, row.job_id)) for row in rows]

    @contextmanager
    def _taken_in(self, files: list[Path], keep: bool) -> Iterator[Callable[[str], list[str]]]:
        """Copy (or move) files into the studio's folder, before any lock is taken.

        Gives a function that settles them under a name within the caller's transaction, and tells where each is;
        what has not been settled is removed at the end.
        """
        aside = Path(tempfile.mkdtemp(prefix="new-", dir=self.home.uploads))
        places = [Path(str(number)) / safe_file_name(file.name) for number, file in enumerate(files)]

        def settle(name: str) -> list[str]:
            folder = self.home.uploads / name
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(aside, folder)
            return [str(Path(name) / place) for place in places]

        try:
            for file, place in zip(files, places, strict=True):
                (aside / place).parent.mkdir()
                (shutil.copyfile if keep else shutil.move)(file, aside / place)
            yield settle
        except OSError as error:
            raise UserError(f"{error.filename or files[0].name}: {error.strerror}. Choose another file.") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _refuse_busy(self, session: Session, where: Any, what: str) -> None:
        busy = session.scalar(select(Jobs.id).where(where, Jobs.status.not_in(FINISHED)).limit(1))
        if busy:
            raise UserError(f"{what} is in use by job {busy}. Stop that job first.")


def clean_name(name: str) -> str:
    """A name without control characters, at most ``NAME_LIMIT`` long.

    Raises:
        UserError: When nothing is left.
    """
    kept = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+", " ", name).strip()[:NAME_LIMIT]
    if not kept:
        raise UserError("The name is empty. Give it one.")
    return kept


def safe_file_name(name: str) -> str:
    """The last part of an uploaded name, reduced to harmless characters; its ending is kept."""
    kept = re.sub(r"[^\w.\- ()]+", "_", Path(name.replace("\\", "/")).name)[-100:].lstrip(".")
    return kept or "file"
