"""Layouts: jobs that place the rows of a corpus on its map by UMAP, which takes long, in place of SVD's directions."""

from __future__ import annotations

from sqlalchemy import select

from hydralora.errors import UserError
from jobs.store.clusterings import Clusterings
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.rows import Rows
from jobs.store.tables import JobRow, is_id


class Layouts:
    """All reads and writes of layouts."""

    def __init__(self, rows: Rows, queue: Queue, clusterings: Clusterings) -> None:
        self.queue, self.clusterings, self._rows = queue, clusterings, rows

    def add(self, corpus_id: int) -> Job:
        """Queue another map of the newest clustering of a corpus.

        Raises:
            UserError: When the corpus was not clustered, or this job waits or works already.
        """
        self.clusterings.corpora.ready(corpus_id)
        clustering, current = self.clusterings.latest(corpus_id, finished=True), self.job(corpus_id)
        if clustering is None:
            raise UserError("This corpus has no clusters and no map yet. Cluster it first.")
        if current is not None and not current.is_finished:
            raise UserError(f"Job {current.id} places its rows already. Wait for it, or stop it.")
        payload = {"corpus_id": corpus_id, "clustering_id": clustering.id}
        with self._rows.writing() as session:
            return Job.of(self.queue.add(session, "layout", payload, corpus_id=corpus_id))

    def job(self, corpus_id: int) -> Job | None:
        """The newest job that places the rows of a corpus, or None."""
        query = select(JobRow).where(JobRow.kind == "layout", JobRow.corpus_id == corpus_id).order_by(JobRow.id.desc())
        with self._rows.reading() as session:
            row = session.scalars(query.limit(1)).first() if is_id(corpus_id) else None
            return Job.of(row) if row else None
