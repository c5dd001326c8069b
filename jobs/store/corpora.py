"""Corpora: all examples of one dataset each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import and_, delete, func, select
from sqlalchemy.orm import Session

from hydralora.bounds import LARGEST_ID, BaseName, GivenRoles, Length, checked
from hydralora.corpus.hub import HubDataset
from hydralora.errors import UserError
from hydralora.results import ImportOptions
from jobs.home import Home
from jobs.kinds import PREVIEWS
from jobs.store.bases import is_hub_allowed
from jobs.store.events import STUDIO, move
from jobs.store.intake import safe_file_name, taken_in
from jobs.store.queue import Queue
from jobs.store.records import Corpus, Job, Reading, asks_alike
from jobs.store.rows import Rows, clean_name, job_of, jobs_with, refuse_busy, row_of
from jobs.store.status import ACTIVE, FINISHED, JobStatus
from jobs.store.tables import (
    AnalysisRow,
    ClusterEditRow,
    ClusteringRow,
    CorpusRow,
    EditRow,
    ExclusionRow,
    JobRow,
    RunRow,
    SelectionRow,
)

OF_POSITIONS: tuple[Any, ...] = (
    EditRow,
    ExclusionRow,
    SelectionRow,
)  # tables of what names examples by their positions
MOST_PREVIEWS = 20  # newest looks at a corpus that are read; earlier ones are given up


class Corpora:
    """All reads and writes of corpora."""

    def __init__(self, home: Home, rows: Rows, queue: Queue) -> None:
        self.home, self.queue, self._rows = home, queue, rows

    def add(
        self,
        name: str,
        files: list[Path],
        *,
        roles: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        is_sample: bool = False,
        keep_files: bool = True,
    ) -> Corpus:
        """Queue the import of ``files``; they are copied (or moved) into the studio's folder first.

        Args:
            roles: Which column plays which part; what is not mentioned is guessed.
            options: Fields of ``ImportOptions``.

        Raises:
            UserError: When a file does not exist or cannot be copied.
        """
        asked = _asked(roles, options)
        with self._taken_in(name, files, keep_files, is_sample) as (session, row, places):
            corpus_id = row.id
            payload = {"corpus_id": corpus_id, "files": places, **asked}
            row.job_id = self.queue.add(session, "ingest", payload, corpus_id=corpus_id, max_attempts=2).id
        return self.get(corpus_id)

    def draft(self, name: str, files: list[Path], *, base: str = "", keep_files: bool = True) -> Corpus:
        """Take in ``files`` without importing them, and queue a look at what an import would make of them.

        The corpus is a draft until ``import_again`` has been called for it.

        Args:
            base: The base model that examples are then rendered for; for none where it is empty.

        Raises:
            UserError: When a file does not exist or cannot be copied.
        """
        with self._taken_in(name, files, keep_files, False) as (session, row, places):
            corpus_id = row.id
            self._queue_previews(session, row, {"files": places, **_asked(None, None)}, base, 0)
        return self.get(corpus_id)

    def draft_of_hub(self, dataset: str, name: str = "", *, base: str = "") -> Corpus:
        """Queue the download of a data set of the hub, ``owner/name`` or ``owner/name/folder``, as a draft.

        Raises:
            UserError: When that is no name of one, or this studio fetches nothing.
        """
        if not is_hub_allowed():
            raise UserError(
                "This studio fetches nothing from the hub: whoever runs it switched that off. Download the files of "
                "the data set, and add them."
            )
        asked = HubDataset.of(dataset)
        with self._rows.writing() as session:
            row = CorpusRow(name=clean_name(name or asked.title), is_sample=False)
            session.add(row)
            session.flush()
            files = [f"corpus-{row.id}/0/{safe_file_name(asked.title)}"]
            payload = {"dataset": str(asked), "files": files, **_asked(None, None), "max_length": 0}
            payload["base"] = checked(BaseName, base, "base")
            row.job_id = self.queue.add(session, "fetch", payload, corpus_id=row.id, max_attempts=2).id
            corpus_id = row.id
        return self.get(corpus_id)

    @contextmanager
    def _taken_in(
        self, name: str, files: list[Path], keep_files: bool, is_sample: bool
    ) -> Iterator[tuple[Session, CorpusRow, list[str]]]:
        """A new corpus in the session that writes it, and where its files are now."""
        if not files:
            raise UserError("No file was given. Choose at least one.")
        with taken_in(self.home, files, keep=keep_files) as settle, self._rows.writing() as session:
            row = CorpusRow(name=clean_name(name), is_sample=is_sample)
            session.add(row)
            session.flush()
            yield session, row, settle(f"corpus-{row.id}")

    def all(self) -> list[Corpus]:
        """All corpora, newest first."""
        return self._rows.newest_first(CorpusRow, Corpus)

    def get(self, corpus_id: int) -> Corpus:
        """One corpus; UserError when it does not exist."""
        return self._rows.one(CorpusRow, Corpus, corpus_id, "Corpus")

    def ready(self, corpus_id: int) -> Corpus:
        """One corpus that has been imported; UserError says what it waits for."""
        corpus = self.get(corpus_id)
        if corpus.is_draft:
            raise UserError(
                f"Corpus '{corpus.name}' is not imported yet. Open it on the page Corpora, look at its columns, and "
                "press Import."
            )
        if not corpus.is_ready:
            state = corpus.job.status if corpus.job else "unknown"
            raise UserError(f"Corpus '{corpus.name}' is not ready ({state}). Wait for its import, or import it again.")
        return corpus

    def import_again(
        self, corpus_id: int, roles: dict[str, Any] | None = None, options: dict[str, Any] | None = None
    ) -> Corpus:
        """Queue the import of a corpus again from its kept files, with other roles or options, also after one that
        failed.

        Roles stay where none is given, and so does each option that is not.

        Raises:
            UserError: While a run uses the corpus or a job works on it, or when its files were not kept.
        """
        with self._rows.writing() as session:
            row = row_of(session, CorpusRow, corpus_id, "Corpus")
            self._refuse_used(session, row, "Import the file again under another name")
            self._refuse_busy(session, row)
            kept = self._kept(session, row)
            asked = _asked_again(kept, roles, options)
            payload = {"corpus_id": corpus_id, "files": kept["files"], **asked}
            row.job_id = self.queue.add(session, "ingest", payload, corpus_id=corpus_id, max_attempts=2).id
            session.flush()
            self._drop_previews(session, corpus_id, lambda job: asks_alike(job.payload, asked))
            folders = self._forget_looks(session, corpus_id)
            folders += self._forget_clusterings(session, corpus_id)  # of positions that name other examples then
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return self.get(corpus_id)

    def preview(
        self,
        corpus_id: int,
        roles: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        *,
        base: str = "",
        max_length: int = 0,
    ) -> Job:
        """Queue a look at what an import of the kept files would make of them; its result is a ``Preview``.

        Where a base is named, a second look follows that renders the first examples for it: loading what that takes
        is slow, and the columns need not wait. Earlier looks are given up.

        Raises:
            UserError: When the files were not kept.
        """
        with self._rows.writing() as session:
            row = row_of(session, CorpusRow, corpus_id, "Corpus")
            kept = self._kept(session, row)
            asked = {"files": kept["files"], **_asked_again(kept, roles, options)}
            return Job.of(self._queue_previews(session, row, asked, base, max_length))

    def reading(self, corpus_id: int) -> Reading:
        """How the files of a corpus are read, as far as somebody has looked."""
        query = select(JobRow).where(JobRow.corpus_id == corpus_id, JobRow.kind.in_(PREVIEWS))
        with self._rows.reading() as session:
            row = row_of(session, CorpusRow, corpus_id, "Corpus")
            looks = [Job.of(job) for job in session.scalars(query.order_by(JobRow.id.desc()).limit(MOST_PREVIEWS))]
            return Reading.of_jobs(looks, job_of(session, row.job_id))

    def _queue_previews(
        self, session: Session, row: CorpusRow, asked: dict[str, Any], base: str, max_length: int
    ) -> JobRow:
        """Queue a look, and one that renders examples where a base is named; that of a draft is its newest job."""
        base, max_length = checked(BaseName, base, "base"), checked(Length, max_length, "max_length")
        current = session.get(JobRow, row.job_id) if row.job_id else None
        asked = {**asked, "max_length": max_length}
        first = self.queue.add(session, "preview", {**asked, "base": ""}, corpus_id=row.id)
        if current is None or (row.examples is None and current.kind in PREVIEWS):
            row.job_id = first.id
            session.flush()
        self._drop_previews(session, row.id, lambda job: job.status == JobStatus.SUCCEEDED, before=first.id)
        if base:
            self.queue.add(session, "render", {**asked, "base": base}, corpus_id=row.id)
        return first

    def _drop_previews(
        self, session: Session, corpus_id: int, keep: Callable[[JobRow], bool], before: int = LARGEST_ID
    ) -> None:
        """Give up looks before a job, but for those that ``keep`` says, of which only the newest result stays."""
        query = select(JobRow).where(JobRow.corpus_id == corpus_id, JobRow.kind.in_(PREVIEWS), JobRow.id < before)
        has_result = False
        for row in session.scalars(query.order_by(JobRow.id.desc()).with_for_update()).all():
            is_result = row.status == JobStatus.SUCCEEDED
            if keep(row) and not (is_result and has_result):
                has_result |= is_result
            elif JobStatus(row.status) in ACTIVE:
                move(session, row, JobStatus.STOPPING, STUDIO, "Nobody looks any more.", stop_requested_at=time.time())
            else:
                session.delete(row)
                shutil.rmtree(self.home.attempts(row.id), ignore_errors=True)

    def _refuse_busy(self, session: Session, row: CorpusRow) -> None:
        """Refuse while a job other than a look works on a corpus."""
        others = JobRow.kind.not_in(PREVIEWS)
        refuse_busy(session, and_(JobRow.corpus_id == row.id, others), f"Corpus '{row.name}'")

    def _kept(self, session: Session, row: CorpusRow) -> dict[str, Any]:
        """The files of the last import, with its roles and options."""
        job = session.get(JobRow, row.job_id)
        payload = job.payload if job else {}
        files = payload.get("files")
        if job is not None and job.kind == "fetch" and JobStatus(job.status) not in FINISHED:
            raise UserError(f"The files of corpus '{row.name}' are still being fetched. Wait for that, or stop it.")
        if not files or not all((self.home.uploads / name).exists() for name in files):
            raise UserError(f"The files of corpus '{row.name}' were not kept. Add them again.")
        return {"files": files, "roles": payload.get("roles"), "options": payload.get("options") or {}}

    def _forget_clusterings(self, session: Session, corpus_id: int) -> list[Path]:
        """Delete the clusterings of a corpus; gives the folders to remove."""
        rows = session.scalars(select(ClusteringRow).where(ClusteringRow.corpus_id == corpus_id)).all()
        session.execute(delete(ClusterEditRow).where(ClusterEditRow.corpus_id == corpus_id))
        for row in rows:
            session.delete(row)
        session.flush()
        return [self.home.near.clustering(row.id) for row in rows]

    def _forget_looks(self, session: Session, corpus_id: int) -> list[Path]:
        """Delete what runs of other corpora have measured on this one; gives the folders to remove."""
        rows = [row for row in session.scalars(select(AnalysisRow)) if row.params.get("corpus_id") == corpus_id]
        for row in rows:
            session.delete(row)
        return [self.home.near.analysis(row.id) for row in rows]

    @staticmethod
    def _refuse_used(session: Session, row: CorpusRow, way_out: str) -> None:
        runs = session.scalar(select(func.count()).select_from(RunRow).where(RunRow.corpus_id == row.id))
        if runs:
            raise UserError(f"Corpus '{row.name}' is used by {runs} run{'s' * (runs != 1)}. {way_out}.")

    def rename(self, corpus_id: int, name: str) -> None:
        """Give a corpus another name."""
        self._rows.rename(CorpusRow, corpus_id, name, "Corpus")

    def delete(self, corpus_id: int) -> None:
        """Delete a corpus with its clusterings and logs; refused while a run or a job uses it."""
        with self._rows.writing() as session:
            row = row_of(session, CorpusRow, corpus_id, "Corpus")
            self._refuse_used(session, row, "Delete those first")
            self._refuse_busy(session, row)
            folders = [self.home.near.corpus(corpus_id), *self._forget_clusterings(session, corpus_id)]
            folders += self._forget_looks(session, corpus_id)
            folders += [self.home.attempts(job) for job in jobs_with(session, JobRow.corpus_id == corpus_id)]
            for table in OF_POSITIONS:
                session.execute(delete(table).where(table.corpus_id == corpus_id))
            session.delete(row)
            session.flush()
            self._drop_previews(session, corpus_id, lambda job: False)
        for folder in [*folders, self.home.uploads / f"corpus-{corpus_id}"]:
            self.home.artefacts.forget(folder)


def _asked(roles: dict[str, Any] | None, options: dict[str, Any] | None) -> dict[str, Any]:
    """Roles and options as a job takes them."""
    given = None if roles is None else checked(GivenRoles, roles, "roles")
    return {"roles": given, "options": checked(ImportOptions, options or {}, "options").dump()}


def _asked_again(kept: dict[str, Any], roles: dict[str, Any] | None, options: dict[str, Any] | None) -> dict[str, Any]:
    """As ``_asked``, where what is not given is that of the last import."""
    return _asked(kept["roles"] if roles is None else roles, {**kept["options"], **(options or {})})


def write_import(session: Session, job: JobRow, home: Home) -> None:
    """Write what an import has found into its row; what names examples by position was of the former rows."""
    corpus = session.get(CorpusRow, job.corpus_id)
    for table in OF_POSITIONS:
        session.execute(delete(table).where(table.corpus_id == job.corpus_id))
    if corpus is not None and job.result is not None:
        corpus.examples, corpus.rejected, corpus.format = (job.result[k] for k in ("examples", "rejected", "format"))
