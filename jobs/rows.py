"""What the parts of the store share: the engine, copies of rows, names, and files taken in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.chats import Chats
from jobs.database import migrate, open_engine, writing
from jobs.home import Home
from jobs.queue import Queue
from jobs.records import Job
from jobs.speeds import Speeds
from jobs.status import FINISHED
from jobs.tables import Jobs

NAME_LIMIT = 80


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

    def _take_in(self, name: str, files: list[Path], keep: bool) -> list[str]:
        folder = self.home.uploads / name
        shutil.rmtree(folder, ignore_errors=True)
        stored = []
        try:
            for number, file in enumerate(files):
                target = folder / str(number) / safe_file_name(file.name)
                target.parent.mkdir(parents=True)
                (shutil.copyfile if keep else shutil.move)(file, target)
                stored.append(str(target.relative_to(self.home.uploads)))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"{error.filename or files[0].name}: {error.strerror}. Choose another file.") from error
        return stored

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
