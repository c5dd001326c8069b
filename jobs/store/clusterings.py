"""Clusterings: the ways in which corpora were clustered, each as its edits make it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.bounds import Clusters, Seed, checked
from hydralora.corpus.clusters.grouping import grouping_folder, read_assignments
from hydralora.corpus.clusters.options import KMEANS, checked_method
from hydralora.errors import UserError
from hydralora.results import Clusters as Result
from hydralora.results.clusters import ASSIGNMENTS
from jobs.home import Home
from jobs.store.corpora import Corpora
from jobs.store.exclusions import Exclusions
from jobs.store.queue import Queue
from jobs.store.records import Clustering, Edit, Job, typed
from jobs.store.rows import Rows, job_of, row_of
from jobs.store.tables import ClusterEditRow, ClusteringRow, ExclusionRow, JobRow, is_id


class Clusterings:
    """All reads of clusterings, and making new ones; ``ClusterEdits`` changes them."""

    def __init__(self, home: Home, rows: Rows, queue: Queue, corpora: Corpora) -> None:
        self.home, self.queue, self.corpora, self._rows = home, queue, corpora, rows

    def add(
        self,
        corpus_id: int,
        k: int | None,
        seed: int = 0,
        *,
        method: str = KMEANS.name,
        options: dict[str, Any] | None = None,
    ) -> Clustering:
        """Queue a clustering of an imported corpus; ``k`` None takes the suggested number.

        Raises:
            UserError: When a value is out of bounds, or the method is none of ``METHODS`` or takes no ``k``.
        """
        corpus, seed = self.corpora.ready(corpus_id), checked(Seed, seed, "seed")
        k = None if k is None else checked(Clusters, k, "k")
        if k is not None and not 1 <= k <= (corpus.examples or 0):
            raise UserError(f"`k` must be between 1 and {corpus.examples:,}, the number of examples, got {k}.")
        _, chosen = checked_method(method, k, options or {})
        with self._rows.writing() as session:
            row = ClusteringRow(corpus_id=corpus_id, k=k, seed=seed)
            session.add(row)
            session.flush()
            payload: dict[str, Any] = {"corpus_id": corpus_id, "clustering_id": row.id, "k": k, "seed": seed}
            payload |= {"method": method, "options": chosen.model_dump(mode="json")}
            job = self.queue.add(session, "cluster", payload, corpus_id=corpus_id)
            row.job_id = job.id
            session.flush()
            return self._copy(session, row)

    def get(self, clustering_id: int) -> Clustering:
        """One clustering; UserError when it does not exist."""
        with self._rows.reading() as session:
            return self._copy(session, row_of(session, ClusteringRow, clustering_id, "Clustering"))

    def latest(self, corpus_id: int | None, *, finished: bool = False) -> Clustering | None:
        """The newest clustering of a corpus (that has a result, where ``finished``), or None."""
        if not is_id(corpus_id):
            return None
        query = select(ClusteringRow).where(ClusteringRow.corpus_id == corpus_id).order_by(ClusteringRow.id.desc())
        with self._rows.reading() as session:
            for row in session.scalars(query):
                if row.result is not None or not finished:
                    return self._copy(session, row)
        return None

    def clustered(self, corpus_id: int) -> Clustering:
        """The newest clustering of a corpus that has a result; UserError when there is none."""
        found = self.latest(corpus_id, finished=True)
        if found is None:
            raise UserError(f"Corpus {corpus_id} has no clusters yet. Run `corpora cluster {corpus_id}` first.")
        return found

    def folder(self, clustering: Clustering) -> Path:
        """Where the clusters lie as they stand: the folder of the clustering, or of the grouping that edits made."""
        if clustering.grouping:
            return grouping_folder(self.home.corpus(clustering.corpus_id), clustering.grouping)
        return self.home.clustering(clustering.id)

    def numbers(self, clustering: Clustering) -> np.ndarray:
        """The number of every example's cluster as they stand, ``(examples,)``; ``result.title`` names it.

        Raises:
            CorpusError: When the files are gone or damaged.
        """
        numbers: np.ndarray = read_assignments(self.folder(clustering))["cluster"].to_numpy()
        return numbers

    def _copy(self, session: Session, row: ClusteringRow) -> Clustering:
        """A copy as its edits make it."""
        edits = edits_of(session, row.id)
        state = next((edit for edit in edits if edit.is_active and edit.grouping), None)
        result = row.result
        if state is not None:
            result = session.scalar(select(ClusterEditRow.result).where(ClusterEditRow.id == state.id))
        more = {"job": job_of(session, row.job_id), "result": typed(Result, result), "edits": edits}
        copy = Clustering.of(row, **more, grouping=(state and state.grouping) or "", left_out=())
        return replace(copy, left_out=self._left_out(session, copy))

    def _left_out(self, session: Session, clustering: Clustering) -> tuple[int, ...]:
        """Numbers of the clusters of which nothing is left."""
        excluded = Exclusions.positions(session, clustering.corpus_id)
        if clustering.result is None or not len(excluded) or not (self.folder(clustering) / ASSIGNMENTS).exists():
            return ()
        numbers = self.numbers(clustering)
        is_left = np.ones(len(numbers), bool)
        is_left[excluded[excluded < len(numbers)]] = False
        left = set(np.unique(numbers[is_left]).tolist())
        return tuple(number for number in clustering.result.all_numbers if number not in left)


def edits_of(session: Session, clustering_id: int) -> tuple[Edit, ...]:
    """Every edit of a clustering, newest first; one that left a cluster out is undone where that was taken back."""
    query = (
        select(ClusterEditRow, JobRow)
        .outerjoin(JobRow, JobRow.id == ClusterEditRow.job_id)
        .where(ClusterEditRow.clustering_id == clustering_id)
        .order_by(ClusterEditRow.id.desc())
    )
    found = [Edit.of(row, job=Job.of(job) if job else None) for row, job in session.execute(query)]
    exclusions = [edit.details["exclusion"] for edit in found if edit.action == "exclude" and edit.is_active]
    if not exclusions:
        return tuple(found)
    asked = select(ExclusionRow.id, ExclusionRow.undone_at).where(ExclusionRow.id.in_(exclusions))
    undone = {number: when for number, when in session.execute(asked) if when is not None}
    return tuple(
        replace(edit, undone_at=undone[edit.details["exclusion"]])
        if edit.action == "exclude" and edit.undone_at is None and edit.details["exclusion"] in undone
        else edit
        for edit in found
    )


def write_result(session: Session, job: JobRow, home: Home) -> None:
    """Write what a clustering has found into its row."""
    row = session.get(ClusteringRow, job.payload["clustering_id"])
    if row is not None and job.result is not None:
        row.result, row.k = job.result, job.result["k"]
