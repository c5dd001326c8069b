"""What is known of each base: facts from its files at once, and the newest check by a job that loaded it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from hydralora.bases.facts import mark_of, read_facts
from hydralora.bases.folder import STARTER
from hydralora.bases.packages import PACKAGED
from hydralora.errors import BaseModelError
from hydralora.results.bases import BaseCheck, BaseFacts
from jobs.home import Home
from jobs.store.bases import Bases
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.settings import Settings
from jobs.store.tables import JobRow, SettingRow

KIND = "base_check"
KEY = "check of base "
LICENCES = {"starter": "that of the studio", **{name: base.licence for name, base in PACKAGED.items()}}


class BaseChecks:
    """All reads and writes of what is known of bases."""

    def __init__(self, bases: Bases, settings: Settings, queue: Queue) -> None:
        self.bases, self.settings, self.queue = bases, settings, queue

    def names(self) -> list[str]:
        """The starter, and every folder on the list."""
        return ["starter", *(base.name for base in self.bases.all())]

    def folder(self, name: str) -> Path | None:
        """Where the files of a base lie; None for a hub id.

        Raises:
            BaseModelError: When there is none of this name.
        """
        found = self.bases.resolve(name)
        if found == "starter":
            return STARTER
        return Path(found) if Path(found).is_absolute() else None

    def facts(self, name: str) -> BaseFacts:
        """What the files of a base tell.

        Raises:
            BaseModelError: When there is none of this name, its files may not be loaded, or they are on a hub.
        """
        folder = self.folder(name)
        if folder is None:
            raise BaseModelError(f"'{name[:100]}' lies on a hub: what it is shows once it has been fetched. Check it.")
        if not folder.is_dir():
            raise BaseModelError(f"The folder of base model '{name}' is gone. Put it back, or remove it.")
        return read_facts(folder, name, licence=LICENCES.get(name, ""))

    def add(self, name: str) -> Job:
        """Queue the check of a base; one that is waiting or under way already is given instead.

        Raises:
            BaseModelError: When there is none of this name, or its files may not be loaded.
        """
        found, known = self.bases.look(name), self.job(name)
        if known is not None and not known.is_finished:
            return known
        dtype = "auto"
        if (folder := self.folder(name)) is not None:
            dtype = "bfloat16" if read_facts(folder, name).stored in ("BF16", "F16") else "float32"
        return self.queue.submit(KIND, {"name": name, "base": found, "dtype": dtype}, max_attempts=1)

    def job(self, name: str) -> Job | None:
        """The newest check of a base that is waiting, under way or ended, or None."""
        return next((job for job in self.queue.jobs(kind=KIND, limit=50) if job.payload["name"] == name), None)

    def latest(self, name: str) -> BaseCheck | None:
        """What the newest check has shown; None where there was none, or the files have changed since."""
        stored = self.settings.get(KEY + name)
        if not stored:
            return None
        found, folder = BaseCheck.load(stored, "The studio"), self.folder(name)
        return None if folder is not None and (not folder.is_dir() or mark_of(folder) != found.mark) else found


def write_check(session: Session, job: JobRow, home: Home) -> None:
    """Remember what a check has shown, under the name of the base."""
    session.merge(SettingRow(key=KEY + job.payload["name"], value=job.result or {}))
