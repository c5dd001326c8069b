"""Selections: which examples of a corpus meet a ``Query``, and those that were given a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select

from hydralora.bounds import checked
from hydralora.corpus import narrowing
from hydralora.corpus.clusters.edits import check_numbers
from hydralora.corpus.folder import Corpus
from hydralora.corpus.loop import points_inside
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.home import Home
from jobs.store.clusterings import Clusterings
from jobs.store.exclusions import Exclusions
from jobs.store.membership import Membership, membership_of
from jobs.store.positions import packed, unpacked
from jobs.store.rows import Rows, clean_name, row_of
from jobs.store.tables import SelectionRow, is_id

MOST_SELECTIONS = 200  # with a name, of one corpus


@dataclass(frozen=True)
class Selection:
    """A named selection: the examples that met a query when it was named; ``words`` says what was asked."""

    id: int
    corpus_id: int
    name: str
    count: int
    words: str
    created_at: float


@dataclass(frozen=True)
class Selected:
    """What meets a query: a mask and positions, ascending, of the examples of a corpus.

    Args:
        positions: ``(selected,)``.
        of: Examples of the corpus.
        left_out: How many of the selected are left out of runs.
        flags: Selected and all examples of each finding of the newest quality report, by kind.
    """

    positions: np.ndarray
    of: int
    left_out: int
    flags: dict[str, tuple[int, int]]

    @property
    def mask(self) -> np.ndarray:
        """``(examples,)``."""
        return narrowing.mask_of(self.positions, self.of)


class Selections:
    """All reads and writes of selections."""

    def __init__(self, home: Home, rows: Rows, clusterings: Clusterings, exclusions: Exclusions) -> None:
        self.home, self.clusterings, self.exclusions, self._rows = home, clusterings, exclusions, rows

    def find(self, corpus_id: int, query: Query) -> Selected:
        """The examples of a corpus that meet every part of a query.

        Raises:
            UserError: When the corpus is not ready, or the query asks for what is not there: clusters before it was
                clustered, tokens, languages or a finding before it was checked, a selection that was deleted.
        """
        self.exclusions.corpora.ready(corpus_id)
        corpus = Corpus(self.home.corpus(corpus_id))
        excluded = narrowing.mask_of(self.exclusions.excluded(corpus_id), len(corpus))
        found = narrowing.findings_of(corpus.folder)
        mask = self._named(corpus_id, query.saved, len(corpus))
        if query.rows:
            mask &= narrowing.mask_of(np.array(query.rows), len(corpus))
        if query.left_out:
            mask &= excluded == (query.left_out == "yes")
        if query.flags:
            mask &= narrowing.with_flags(found, query.flags, len(corpus))
        mask &= self._of_map(corpus_id, query, len(corpus))
        mask &= _of_texts(corpus, query)
        flags = {kind: (int(mask[places].sum()), len(places)) for kind, places in found.items()}
        return Selected(np.flatnonzero(mask), len(corpus), int((mask & excluded).sum()), flags)

    def membership(self, corpus_id: int) -> Membership | None:
        """Cluster and place of every example, by the newest clustering; None before the first."""
        return membership_of(self.home, self.clusterings, corpus_id)

    def _named(self, corpus_id: int, saved: int | None, count: int) -> np.ndarray:
        if saved is None:
            return np.ones(count, bool)
        with self._rows.reading() as session:
            row = row_of(session, SelectionRow, saved, "Selection")
            if row.corpus_id != corpus_id:
                raise UserError(f"Selection {saved} is of another corpus. Choose one of this one.")
            return narrowing.mask_of(unpacked(row.positions), count)

    def _of_map(self, corpus_id: int, query: Query, count: int) -> np.ndarray:
        mask = np.ones(count, bool)
        if not query.needs_clusters:
            return mask
        known = self.membership(corpus_id)
        if known is None:
            raise UserError("This corpus has no clusters and no map yet. Cluster it first.")
        if query.clusters:
            check_numbers(known.clustering.clusters, query.clusters)
            mask &= np.isin(known.places.cluster, query.clusters)
        if query.loop:
            mask &= points_inside(known.places.x, known.places.y, query.loop)
        return mask

    def add(self, corpus_id: int, name: str, query: Query) -> Selection:
        """Give what meets a query now a name; it stays the same examples whatever changes later.

        Raises:
            UserError: When nothing meets it, the name is empty or taken, or there are too many already.
        """
        positions = self.find(corpus_id, query).positions
        if not len(positions):
            raise UserError("No example is selected, so there is nothing to name. Widen the selection.")
        name = clean_name(name)
        with self._rows.writing() as session:
            taken = session.scalars(select(SelectionRow.name).where(SelectionRow.corpus_id == corpus_id)).all()
            if name in taken:
                raise UserError(f"There is a selection called '{name}' already. Choose another name, or delete it.")
            if len(taken) >= MOST_SELECTIONS:
                raise UserError(f"There are {len(taken)} named selections, the most there may be. Delete one.")
            words, count = query.words() or "all", len(positions)
            row = SelectionRow(corpus_id=corpus_id, name=name, positions=packed(positions), count=count, words=words)
            session.add(row)
            session.flush()
            return _copy(row)

    def all(self, corpus_id: int) -> list[Selection]:
        """Every named selection of a corpus, newest first."""
        query = select(SelectionRow).where(SelectionRow.corpus_id == corpus_id).order_by(SelectionRow.id.desc())
        with self._rows.reading() as session:
            return [_copy(row) for row in session.scalars(query)] if is_id(corpus_id) else []

    def get(self, selection_id: int) -> Selection:
        """One named selection; UserError when it does not exist."""
        with self._rows.reading() as session:
            return _copy(row_of(session, SelectionRow, selection_id, "Selection"))

    def delete(self, selection_id: int) -> Selection:
        """Forget a named selection; its examples stay where they are."""
        with self._rows.writing() as session:
            row = row_of(session, SelectionRow, selection_id, "Selection")
            session.delete(row)
            return _copy(row)


def checked_query(given: Any) -> Query:
    """A query as somebody has sent it.

    Raises:
        UserError: When a part of it is none, or out of bounds; with the name, the rule and the value.
    """
    query: Query = checked(Query, given, "selection")
    return query


def _of_texts(corpus: Corpus, query: Query) -> np.ndarray:
    """What is asked of texts, labels, languages and lengths, the quickest first."""
    mask = np.ones(len(corpus), bool)
    if query.labels:
        mask &= narrowing.with_labels(corpus, query.labels)
    if query.languages:
        mask &= narrowing.with_languages(corpus, query.languages)
    if (query.min_tokens, query.max_tokens) != (None, None):
        mask &= narrowing.in_range_of_tokens(corpus, query.min_tokens, query.max_tokens)
    if (query.min_length, query.max_length) != (None, None):
        mask &= narrowing.between(narrowing.characters(corpus), query.min_length, query.max_length)
    return mask & narrowing.search_texts(corpus, query.search) if query.search else mask


def _copy(row: SelectionRow) -> Selection:
    return Selection(row.id, row.corpus_id, row.name, row.count, row.words, row.created_at)
