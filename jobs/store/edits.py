"""Edits: rows of a corpus whose prompt or answer was changed, as a layer over the import; each can be undone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora import limits
from hydralora.corpus.edits import edited_example, name_edits, newest_edits, write_edits
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.errors import UserError
from hydralora.plain import storable
from jobs.home import Home
from jobs.store.corpora import Corpora
from jobs.store.rows import Rows, row_of
from jobs.store.tables import EditRow, is_id

MOST_EDITS = 10_000  # of one corpus, those that were undone among them


@dataclass(frozen=True)
class Edit:
    """One row with another prompt or answer, since when, and when that was undone."""

    id: int
    corpus_id: int
    position: int
    prompt: str
    answer: str
    created_at: float
    undone_at: float | None


class Edits:
    """All reads and writes of edits; the rows of the database are the truth, the layer beside the corpus follows."""

    def __init__(self, home: Home, rows: Rows, corpora: Corpora) -> None:
        self.home, self.corpora, self._rows = home, corpora, rows

    def add(self, corpus_id: int, position: int, prompt: str, answer: str) -> Edit:
        """Give a row another prompt and answer, from now on; a later edit of the same row takes the place of this one.

        Raises:
            UserError: When there is no such row, it cannot be edited, nothing would change or stand there, the text is
                too long, or there are too many edits.
        """
        self.corpora.ready(corpus_id)
        prompt, answer = storable(prompt), storable(answer)
        (example,) = Corpus(self.home.corpus(corpus_id), self.layer(corpus_id)).take([position])
        _check(position, example, prompt, answer)
        with self._rows.writing() as session:
            count = len(session.scalars(select(EditRow.id).where(EditRow.corpus_id == corpus_id)).all())
            if count >= MOST_EDITS:
                raise UserError(
                    f"This corpus has {count:,} edits, the most there may be. Export it and import it again."
                )
            row = EditRow(corpus_id=corpus_id, position=position, prompt=prompt, answer=answer)
            session.add(row)
            session.flush()
            self._settle(session, corpus_id)
            return _copy(row)

    def undo(self, edit_id: int) -> Edit:
        """Take an edit back: the row is what it was before, as the import or an earlier edit left it."""
        return self._set_undone(edit_id, time.time())

    def redo(self, edit_id: int) -> Edit:
        """Make an edit that was undone again."""
        return self._set_undone(edit_id, None)

    def _set_undone(self, edit_id: int, undone_at: float | None) -> Edit:
        with self._rows.writing() as session:
            row = row_of(session, EditRow, edit_id, "Edit")
            row.undone_at = undone_at
            session.flush()
            self._settle(session, row.corpus_id)
            return _copy(row)

    def all(self, corpus_id: int) -> list[Edit]:
        """Every edit of a corpus, newest first, those that were undone among them."""
        query = select(EditRow).where(EditRow.corpus_id == corpus_id).order_by(EditRow.id.desc())
        with self._rows.reading() as session:
            return [_copy(row) for row in session.scalars(query)] if is_id(corpus_id) else []

    def current(self, corpus_id: int) -> dict[int, tuple[str, str]]:
        """Prompt and answer of every row that is edited now, by position."""
        with self._rows.reading() as session:
            return self._current(session, corpus_id)

    def name(self, corpus_id: int) -> str:
        """The name of the layer that is the newest now; empty where no row is edited."""
        return name_edits(self.current(corpus_id))

    def layer(self, corpus_id: int) -> str:
        """The same, kept beside the corpus for a run to begin with and for everybody to read.

        Where a crash came between the layer and the database, this is what mends it.
        """
        if (name := self.name(corpus_id)) == newest_edits(self.home.corpus(corpus_id)):
            return name
        with self._rows.writing() as session:
            return self._settle(session, corpus_id)

    def _settle(self, session: Session, corpus_id: int) -> str:
        """Write the layer that the rows of the database say, within the transaction that writes these: the layer and
        its name first, the database last, and nobody else meanwhile."""
        folder, edited = self.home.corpus(corpus_id), self._current(session, corpus_id)
        return write_edits(folder, edited, Corpus(folder, "").take(sorted(edited)))

    @staticmethod
    def _current(session: Session, corpus_id: int) -> dict[int, tuple[str, str]]:
        query = select(EditRow.position, EditRow.prompt, EditRow.answer)
        query = query.where(EditRow.corpus_id == corpus_id, EditRow.undone_at.is_(None)).order_by(EditRow.id)
        return {position: (prompt, answer) for position, prompt, answer in session.execute(query)}


def _check(position: int, example: Example, prompt: str, answer: str) -> None:
    """Refuse what cannot stand in a row.

    Raises:
        UserError: With the row, and what is wrong.
    """
    row = f"Row {position}"
    if example.extra:
        raise UserError(f"{row} holds calls of tools or other parts beside its texts, so it cannot be edited here.")
    if not answer.strip():
        raise UserError(f"{row}: `answer` is empty. Write one, or leave the row out.")
    if example.prompt and not prompt.strip():
        raise UserError(f"{row}: `prompt` is empty. Write one, or leave the row out.")
    if not example.prompt and prompt.strip():
        raise UserError(f"{row} is plain text, so it has no prompt. Edit its text.")
    if (prompt, answer) == (example.prompt, example.answer):
        raise UserError(f"{row} stays as it is: nothing was changed.")
    size = sum(map(len, edited_example(example, prompt, answer).parts()))
    if size > limits.MAX_CHARACTERS:
        raise UserError(f"{row} would have {size:,} characters; {limits.MAX_CHARACTERS:,} are the most. Shorten it.")


def _copy(row: EditRow) -> Edit:
    return Edit(row.id, row.corpus_id, row.position, row.prompt, row.answer, row.created_at, row.undone_at)
