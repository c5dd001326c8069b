"""Edits: rows of a corpus that say something else than the import, as a layer over it; each can be undone."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hydralora import limits
from hydralora.corpus.edits import Wording, name_edits, newest_edits, wording_of, write_edits
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.turns import turn_at, with_turn
from hydralora.errors import UserError
from hydralora.plain import storable
from jobs.home import Home
from jobs.store.corpora import Corpora
from jobs.store.rows import Rows, row_of
from jobs.store.tables import EditRow, is_id

MOST_EDITS = 10_000  # of one corpus, those that were undone among them


@dataclass(frozen=True)
class Edit:
    """One row with another prompt or answer, since when, and when that was undone.

    ``more`` is what else of a conversation differs from the import: ``system``, ``turns`` by place, ``extra``;
    ``job_id`` names the job that made it together with others, None where it was made by hand.
    """

    id: int
    corpus_id: int
    position: int
    prompt: str
    answer: str
    created_at: float
    undone_at: float | None
    more: dict[str, Any]
    job_id: int | None = None


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
        example = self._example(corpus_id, position)
        prompt, answer = storable(prompt), storable(answer)
        _check_pair(position, example, prompt, answer)
        return self._keep(corpus_id, position, example, replace(example, prompt=prompt, answer=answer))

    def add_turn(
        self, corpus_id: int, position: int, place: int, text: str | None = None, calls: str | None = None
    ) -> Edit:
        """Give one turn of a row another text, or other calls of tools as a JSON list; what is None stays.

        Args:
            place: As ``hydralora.corpus.turns.turns_of`` counts: from 0, ``SYSTEM`` for the system text.

        Raises:
            UserError: As ``add``, and when there is no such turn, or the calls are none.
        """
        example = self._example(corpus_id, position)
        text, calls = (None if given is None else storable(given) for given in (text, calls))
        try:
            edited = with_turn(example, place, text, calls)
        except UserError as error:
            raise UserError(f"Row {position}: {error}") from error
        return self._keep(corpus_id, position, example, edited)

    def _example(self, corpus_id: int, position: int) -> Example:
        """A row as it is now."""
        self.corpora.ready(corpus_id)
        return Corpus(self.home.corpus(corpus_id), self.layer(corpus_id)).take([position])[0]

    def _keep(self, corpus_id: int, position: int, example: Example, edited: Example) -> Edit:
        _check(position, example, edited)
        (imported,) = Corpus(self.home.corpus(corpus_id), "").take([position])
        wording = Wording(*map(storable, wording_of(imported, edited)))
        with self._rows.writing() as session:
            self.check_room(session, corpus_id)
            row = EditRow(corpus_id=corpus_id, position=position, **wording._asdict())
            session.add(row)
            session.flush()
            self.settle(session, corpus_id)
            return _copy(row)

    @staticmethod
    def check_room(session: Session, corpus_id: int, more: int = 1) -> None:
        """Refuse edits beyond those that a corpus may have.

        Raises:
            UserError: With how many there are.
        """
        count = session.scalar(select(func.count()).where(EditRow.corpus_id == corpus_id)) or 0
        if count + more > MOST_EDITS:
            raise UserError(
                f"This corpus has {count:,} edits, and {more:,} would come; {MOST_EDITS:,} are the most. Export it and "
                "import it again."
            )

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
            self.settle(session, row.corpus_id)
            return _copy(row)

    def all(self, corpus_id: int, most: int | None = None) -> list[Edit]:
        """Every edit of a corpus (the newest ``most``), newest first, those that were undone among them."""
        query = select(EditRow).where(EditRow.corpus_id == corpus_id).order_by(EditRow.id.desc()).limit(most)
        with self._rows.reading() as session:
            return [_copy(row) for row in session.scalars(query)] if is_id(corpus_id) else []

    def states(self, corpus_id: int) -> list[tuple[int, float | None]]:
        """Every edit by its id, with when it was undone, newest first; no text is read."""
        query = select(EditRow.id, EditRow.undone_at).where(EditRow.corpus_id == corpus_id).order_by(EditRow.id.desc())
        with self._rows.reading() as session:
            return [(key, undone_at) for key, undone_at in session.execute(query)] if is_id(corpus_id) else []

    def count(self, corpus_id: int) -> int:
        """How many rows of a corpus are edited now."""
        query = select(func.count(EditRow.position.distinct()))
        query = query.where(EditRow.corpus_id == corpus_id, EditRow.undone_at.is_(None))
        with self._rows.reading() as session:
            return session.scalar(query) or 0

    def current(self, corpus_id: int) -> dict[int, Wording]:
        """What every row says that is edited now, by position."""
        with self._rows.reading() as session:
            return self.current_in(session, corpus_id)

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
            name = self.settle(session, corpus_id)
        self.home.artefacts.publish(self.home.near.corpus(corpus_id))
        return name

    def settle(self, session: Session, corpus_id: int) -> str:
        """Write the layer that the rows of the database say, within the transaction that writes these: the layer and
        its name first, the database last, and nobody else meanwhile."""
        folder = self.home.corpus(corpus_id)
        self.home.artefacts.pend(folder)
        return self.settle_in(session, folder, corpus_id)

    @classmethod
    def settle_in(cls, session: Session, folder: Path, corpus_id: int) -> str:
        """The same for a corpus in this folder."""
        edited = cls.current_in(session, corpus_id)
        return write_edits(folder, edited, Corpus(folder, "").take(sorted(edited)))

    @staticmethod
    def current_in(session: Session, corpus_id: int) -> dict[int, Wording]:
        """What every row says that is edited now, by position, within a session."""
        query = select(EditRow.position, EditRow.prompt, EditRow.answer, EditRow.more)
        query = query.where(EditRow.corpus_id == corpus_id, EditRow.undone_at.is_(None)).order_by(EditRow.id)
        return {position: Wording(*said) for position, *said in session.execute(query)}


def _check_pair(position: int, example: Example, prompt: str, answer: str) -> None:
    """Refuse a prompt and an answer that cannot stand in a row.

    Raises:
        UserError: With the row, and what is wrong.
    """
    row = f"Row {position}"
    if not answer.strip():
        raise UserError(f"{row}: `answer` is empty. Write one, or leave the row out.")
    if example.prompt and not prompt.strip():
        raise UserError(f"{row}: `prompt` is empty. Write one, or leave the row out.")
    if not example.prompt and prompt.strip():
        raise UserError(f"{row} is plain text, so it has no prompt. Edit its text.")
    for place, (before, now) in enumerate(((example.prompt, prompt), (example.answer, answer)), len(example.history)):
        if before != now and turn_at(example, place).calls:
            raise UserError(f"{row} calls tools there. Edit turn {place}: its text and its calls are kept apart.")


def _check(position: int, example: Example, edited: Example) -> None:
    """Refuse an edit that changes nothing or makes a row too long.

    Raises:
        UserError: With the row, and what is wrong.
    """
    if edited == example:
        raise UserError(f"Row {position} stays as it is: nothing was changed.")
    size = sum(map(len, edited.parts()))
    if size > limits.MAX_CHARACTERS:
        most = f"{limits.MAX_CHARACTERS:,}"
        raise UserError(f"Row {position} would have {size:,} characters; {most} are the most. Shorten it.")


def _copy(row: EditRow) -> Edit:
    more = Wording("", "", row.more).details
    said = row.position, row.prompt, row.answer
    return Edit(row.id, row.corpus_id, *said, row.created_at, row.undone_at, more, row.job_id)
