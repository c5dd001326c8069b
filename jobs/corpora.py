"""The part of the store that holds corpora and their clusterings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.records import Clustering, Corpus, Job
from jobs.rows import Rows, clean_name
from jobs.tables import Analyses, Clusterings, Corpora, Jobs, Runs


class CorpusRows(Rows):
    """Corpora and clusterings."""

    def add_corpus(
        self, name: str, files: list[Path], *, roles: dict[str, Any] | None = None,
        is_sample: bool = False, keep_files: bool = True,
    ) -> Corpus:  # fmt: skip
        """Queue the import of ``files``; they are copied (or moved) into the studio's folder first.

        Raises:
            UserError: When a file does not exist or cannot be copied.
        """
        if not files:
            raise UserError("No file was given. Choose at least one.")
        with self._taken_in(files, keep_files) as settle, Session(self.write_engine) as session, session.begin():
            row = Corpora(name=clean_name(name), is_sample=is_sample)
            session.add(row)
            session.flush()
            payload = {"corpus_id": row.id, "files": settle(f"corpus-{row.id}"), "roles": roles}
            job = self.queue.add(session, "ingest", payload, corpus_id=row.id, max_attempts=2)
            row.job_id = job.id
            session.flush()
            return Corpus.of(row, job=Job.of(job))

    def corpora(self) -> list[Corpus]:
        """All corpora, newest first."""
        return self._newest_first(Corpora, Corpus)

    def corpus(self, corpus_id: int) -> Corpus:
        """One corpus; UserError when it does not exist."""
        return self._one(Corpora, Corpus, corpus_id, "Corpus")

    def ready_corpus(self, corpus_id: int) -> Corpus:
        """One corpus that has been imported; UserError says what it waits for."""
        corpus = self.corpus(corpus_id)
        if corpus.examples is None:
            state = corpus.job.status if corpus.job else "unknown"
            raise UserError(f"Corpus '{corpus.name}' is not ready ({state}). Wait for its import, or import it again.")
        return corpus

    def import_again(self, corpus_id: int, roles: dict[str, Any]) -> Corpus:
        """Queue the import of a corpus again with corrected roles; refused while a run uses it."""
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Corpora, corpus_id, "Corpus")
            self._refuse_used(session, row, "Import the file again under another name")
            self._refuse_busy(session, Jobs.corpus_id == corpus_id, f"Corpus '{row.name}'")
            old = session.get(Jobs, row.job_id)
            files = old.payload["files"] if old else []
            payload = {"corpus_id": corpus_id, "files": files, "roles": roles}
            row.job_id = self.queue.add(session, "ingest", payload, corpus_id=corpus_id, max_attempts=2).id
            folders = self._forget_looks(session, corpus_id)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return self.corpus(corpus_id)

    def _forget_looks(self, session: Session, corpus_id: int) -> list[Path]:
        """Delete what runs of other corpora have measured on this one; gives the folders to remove."""
        rows = [row for row in session.scalars(select(Analyses)) if row.params.get("corpus_id") == corpus_id]
        for row in rows:
            session.delete(row)
        return [self.home.analysis(row.id) for row in rows]

    @staticmethod
    def _refuse_used(session: Session, row: Corpora, way_out: str) -> None:
        runs = session.scalar(select(func.count()).select_from(Runs).where(Runs.corpus_id == row.id))
        if runs:
            raise UserError(f"Corpus '{row.name}' is used by {runs} run{'s' * (runs != 1)}. {way_out}.")

    def rename_corpus(self, corpus_id: int, name: str) -> None:
        """Give a corpus another name."""
        with Session(self.write_engine) as session, session.begin():
            self._get(session, Corpora, corpus_id, "Corpus").name = clean_name(name)

    def delete_corpus(self, corpus_id: int) -> None:
        """Delete a corpus with its clusterings; refused while a run or a job uses it."""
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Corpora, corpus_id, "Corpus")
            self._refuse_used(session, row, "Delete those first")
            self._refuse_busy(session, Jobs.corpus_id == corpus_id, f"Corpus '{row.name}'")
            clusterings = session.scalars(select(Clusterings).where(Clusterings.corpus_id == corpus_id)).all()
            folders = [self.home.clustering(c.id) for c in clusterings] + [self.home.corpus(corpus_id)]
            folders += self._forget_looks(session, corpus_id)
            for clustering in clusterings:
                session.delete(clustering)
            session.flush()
            session.delete(row)
        for folder in [*folders, self.home.uploads / f"corpus-{corpus_id}"]:
            shutil.rmtree(folder, ignore_errors=True)

    def add_clustering(self, corpus_id: int, k: int | None, seed: int = 0) -> Clustering:
        """Queue a clustering of an imported corpus; ``k`` None takes the suggested number."""
        corpus = self.ready_corpus(corpus_id)
        if k is not None and not 1 <= k <= (corpus.examples or 0):
            raise UserError(f"`k` must be between 1 and {corpus.examples:,}, the number of examples, got {k}.")
        with Session(self.write_engine) as session, session.begin():
            row = Clusterings(corpus_id=corpus_id, k=k, seed=seed)
            session.add(row)
            session.flush()
            payload = {"corpus_id": corpus_id, "clustering_id": row.id, "k": k, "seed": seed}
            job = self.queue.add(session, "cluster", payload, corpus_id=corpus_id)
            row.job_id = job.id
            session.flush()
            return Clustering.of(row, job=Job.of(job))

    def clustering(self, clustering_id: int) -> Clustering:
        """One clustering; UserError when it does not exist."""
        return self._one(Clusterings, Clustering, clustering_id, "Clustering")

    def latest_clustering(self, corpus_id: int | None, *, finished: bool = False) -> Clustering | None:
        """The newest clustering of a corpus (that has a result, where ``finished``), or None."""
        query = select(Clusterings).where(Clusterings.corpus_id == corpus_id).order_by(Clusterings.id.desc())
        with Session(self.engine) as session:
            for row in session.scalars(query):
                if row.result is not None or not finished:
                    return Clustering.of(row, job=self._job(session, row.job_id))
        return None
