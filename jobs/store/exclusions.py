"""Exclusions: examples that a corpus leaves out, with the reason; nothing is deleted, and each can be undone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.corpus.selection import name_selection, write_selection
from hydralora.errors import UserError
from jobs.home import Home
from jobs.store.corpora import Corpora
from jobs.store.positions import packed, unpacked
from jobs.store.rows import Rows, clean_name, row_of
from jobs.store.tables import ExclusionRow, is_id


@dataclass(frozen=True)
class Exclusion:
    """One step of leaving out: how many examples it left out that were not out already, why, and when it was undone."""

    id: int
    corpus_id: int
    count: int
    reason: str
    created_at: float
    undone_at: float | None


class Exclusions:
    """All reads and writes of exclusions."""

    def __init__(self, home: Home, rows: Rows, corpora: Corpora) -> None:
        self.home, self.corpora, self._rows = home, corpora, rows

    def add(self, corpus_id: int, positions: Iterable[int], reason: str) -> Exclusion:
        """Leave these examples out of every later run and measurement; those that are out already are not counted.

        Raises:
            UserError: When there is none to leave out, a position is outside the corpus, or nothing would be left.
        """
        corpus = self.corpora.ready(corpus_id)
        wanted, count = np.unique(np.fromiter(positions, np.int64)), int(corpus.examples or 0)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < count:
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise UserError(f"Example {bad} is outside corpus '{corpus.name}' of {count:,}. Count from 0.")
        with self._rows.writing() as session:
            present = self.positions(session, corpus_id)
            new = np.setdiff1d(wanted, present, assume_unique=True)
            if not len(new):
                raise UserError(
                    "There is no example to leave out: none is chosen, or all of them are left out already."
                )
            if len(new) + len(present) >= count:
                raise UserError(f"That would leave nothing of corpus '{corpus.name}'. Choose fewer examples.")
            # All that is wanted is kept, so that undoing an earlier exclusion does not bring these back.
            row = ExclusionRow(corpus_id=corpus_id, positions=packed(wanted), count=len(new), reason=clean_name(reason))
            session.add(row)
            session.flush()
            return _copy(row)

    def undo(self, exclusion_id: int) -> Exclusion:
        """Take the examples of one exclusion back."""
        return self._set_undone(exclusion_id, time.time())

    def redo(self, exclusion_id: int) -> Exclusion:
        """Leave the examples of an exclusion that was undone out again."""
        return self._set_undone(exclusion_id, None)

    def _set_undone(self, exclusion_id: int, undone_at: float | None) -> Exclusion:
        with self._rows.writing() as session:
            row = row_of(session, ExclusionRow, exclusion_id, "Exclusion")
            row.undone_at = undone_at
            session.flush()
            corpus = self.corpora.get(row.corpus_id)
            if len(self.positions(session, row.corpus_id)) >= (corpus.examples or 0):
                raise UserError(f"That would leave nothing of corpus '{corpus.name}'. Take others back first.")
            return _copy(row)

    def all(self, corpus_id: int) -> list[Exclusion]:
        """Every exclusion of a corpus, newest first, those that were undone among them."""
        query = select(ExclusionRow).where(ExclusionRow.corpus_id == corpus_id).order_by(ExclusionRow.id.desc())
        with self._rows.reading() as session:
            return [_copy(row) for row in session.scalars(query)] if is_id(corpus_id) else []

    def excluded(self, corpus_id: int) -> np.ndarray:
        """Positions that are left out now, ascending."""
        with self._rows.reading() as session:
            return self.positions(session, corpus_id)

    def selection(self, corpus_id: int) -> str:
        """The name of what is left out now, kept beside the corpus for a run to begin with; empty where nothing is."""
        folder, excluded = self.home.corpus(corpus_id), self.excluded(corpus_id)
        name = write_selection(folder, excluded)
        if name:
            self.home.artefacts.publish(folder)
        return name

    def name(self, corpus_id: int) -> str:
        """The name of what is left out now, without keeping it."""
        return name_selection(self.excluded(corpus_id))

    @staticmethod
    def positions(session: Session, corpus_id: int) -> np.ndarray:
        """Positions that a corpus leaves out now, ascending, within a session."""
        query = select(ExclusionRow.positions).where(
            ExclusionRow.corpus_id == corpus_id, ExclusionRow.undone_at.is_(None)
        )
        parts = [unpacked(data) for data in session.scalars(query)]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _copy(row: ExclusionRow) -> Exclusion:
    return Exclusion(row.id, row.corpus_id, row.count, row.reason, row.created_at, row.undone_at)
