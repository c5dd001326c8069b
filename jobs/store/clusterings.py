"""Clusterings: the ways in which corpora were clustered."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.bounds import Clusters, Seed, checked
from hydralora.corpus.clusters.options import KMEANS, checked_method
from hydralora.errors import UserError
from jobs.store.corpora import Corpora
from jobs.store.queue import Queue
from jobs.store.records import Clustering, Job
from jobs.store.rows import Rows, job_of
from jobs.store.tables import ClusteringRow, JobRow, is_id


class Clusterings:
    """All reads and writes of clusterings."""

    def __init__(self, rows: Rows, queue: Queue, corpora: Corpora) -> None:
        self.queue, self.corpora, self._rows = queue, corpora, rows

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
            return Clustering.of(row, job=Job.of(job))

    def get(self, clustering_id: int) -> Clustering:
        """One clustering; UserError when it does not exist."""
        return self._rows.one(ClusteringRow, Clustering, clustering_id, "Clustering")

    def latest(self, corpus_id: int | None, *, finished: bool = False) -> Clustering | None:
        """The newest clustering of a corpus (that has a result, where ``finished``), or None."""
        if not is_id(corpus_id):
            return None
        query = select(ClusteringRow).where(ClusteringRow.corpus_id == corpus_id).order_by(ClusteringRow.id.desc())
        with self._rows.reading() as session:
            for row in session.scalars(query):
                if row.result is not None or not finished:
                    return Clustering.of(row, job=job_of(session, row.job_id))
        return None


def write_result(session: Session, job: JobRow) -> None:
    """Write what a clustering has found into its row."""
    row = session.get(ClusteringRow, job.payload["clustering_id"])
    if row is not None and job.result is not None:
        row.result, row.k = job.result, job.result["k"]
