"""Checks: the quality report of each corpus, of which the newest is kept beside its examples."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from hydralora.config import parse_config
from hydralora.corpus.quality import FOLDER
from hydralora.results import Quality
from jobs.home import Home
from jobs.store.bases import Bases
from jobs.store.edits import Edits
from jobs.store.exclusions import Exclusions
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.rows import Rows
from jobs.store.tables import JobRow, is_id


class Checks:
    """All reads and writes of quality reports."""

    def __init__(
        self, home: Home, rows: Rows, queue: Queue, exclusions: Exclusions, edits: Edits, bases: Bases
    ) -> None:
        self.home, self.queue, self.bases, self._rows = home, queue, bases, rows
        self.exclusions, self.edits = exclusions, edits

    def add(self, corpus_id: int, *, base: str = "", **settings: Any) -> Job:
        """Queue the check of what a run would train on now.

        Args:
            base: The base whose tokens are counted; none are where it is empty.
            settings: Training settings; those of a new run where they are left out.

        Raises:
            UserError: When the corpus is not ready, there is no such base, or a setting is out of bounds.
        """
        self.exclusions.corpora.ready(corpus_id)
        base = self.bases.look(base) if base else ""
        rows = {"selection": self.exclusions.selection(corpus_id), "edits": self.edits.layer(corpus_id)}
        train = parse_config({"train": {**settings, **rows}}).train
        all_of_them = self.exclusions.corpora.all()
        others = {f"{other.name} ({other.id})": other.id for other in all_of_them if other.is_ready}
        others = {name: number for name, number in others.items() if number != corpus_id}
        payload = {"corpus_id": corpus_id, "base": base, "train": train.model_dump(), "others": others}
        with self._rows.writing() as session:
            return Job.of(self.queue.add(session, "check", payload, corpus_id=corpus_id))

    def job(self, corpus_id: int) -> Job | None:
        """The newest job that checks a corpus, or None."""
        query = select(JobRow).where(JobRow.kind == "check", JobRow.corpus_id == corpus_id).order_by(JobRow.id.desc())
        with self._rows.reading() as session:
            row = session.scalars(query.limit(1)).first() if is_id(corpus_id) else None
            return Job.of(row) if row else None

    def latest(self, corpus_id: int) -> Quality | None:
        """The newest report of a corpus, or None.

        Raises:
            ResultError: When its file is damaged.
        """
        folder = self.home.corpus(corpus_id) / FOLDER
        return Quality.read(folder) if (folder / Quality.FILE).exists() else None
