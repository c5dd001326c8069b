"""Shortenings: what a check found too long, made shorter by one job; edits like any others, undone together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hydralora.corpus.edits import read_edits
from hydralora.corpus.folder import Corpus
from hydralora.errors import UserError
from hydralora.results import Quality, Shortened
from jobs.home import Home
from jobs.store.changes import tell, topics_of
from jobs.store.checks import Checks
from jobs.store.edits import Edits
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.rows import Rows
from jobs.store.tables import EditRow, JobRow, is_id

CHANGED = "Something was left out, taken back or edited since the check. Check again, then shorten."


@dataclass(frozen=True)
class Shortening:
    """Rows that one job shortened, how many it could not, to how many tokens, and when that was undone.

    ``id`` is the job's; one row of it that was undone alone does not count as undone.
    """

    id: int
    corpus_id: int
    count: int
    left: int
    max_length: int
    created_at: float
    undone_at: float | None


class Shortenings:
    """All reads and writes of what shortens several rows at once."""

    def __init__(self, rows: Rows, queue: Queue, checks: Checks, edits: Edits) -> None:
        self.queue, self.checks, self.edits, self._rows = queue, checks, edits, rows

    def add(self, corpus_id: int, kind: str) -> Job:
        """Queue the shortening of what the newest check found, for the base and the settings it was made with.

        Raises:
            UserError: When it found no such thing, shortening is no remedy for it, or the corpus has changed since.
        """
        report = self._report(corpus_id, kind)
        rows = {"selection": self.checks.exclusions.selection(corpus_id), "edits": self.edits.layer(corpus_id)}
        if (report.selection, report.edits) != tuple(rows.values()):
            raise UserError(CHANGED)
        train = {**report.settings, **rows, "max_length": report.max_length}
        payload = {"corpus_id": corpus_id, "finding": kind, "base": report.base, "train": train}
        with self._rows.writing() as session:
            if self._unfinished(session, corpus_id):
                raise UserError("Rows of this corpus are being shortened already. Wait until that has ended.")
            self.edits.check_room(session, corpus_id, _finding(report, kind).shortens)
            return Job.of(self.queue.add(session, "shorten", payload, corpus_id=corpus_id))

    def _report(self, corpus_id: int, kind: str) -> Quality:
        self.checks.exclusions.corpora.ready(corpus_id)
        report = self.checks.latest(corpus_id)
        if report is None or not _finding(report, kind).shortens:
            known = [one.kind for one in report.findings if one.shortens] if report else []
            raise UserError(
                "Shortening is a remedy for what the last check found too long: "
                f"{', '.join(known) or 'nothing'}. Check the corpus for a base and a length first."
            )
        return report

    @staticmethod
    def _unfinished(session: Session, corpus_id: int) -> bool:
        query = select(JobRow).where(JobRow.kind == "shorten", JobRow.corpus_id == corpus_id)
        return any(not Job.of(row).is_finished for row in session.scalars(query))

    def job(self, corpus_id: int) -> Job | None:
        """The newest job that shortens rows of a corpus, or None."""
        query = select(JobRow).where(JobRow.kind == "shorten", JobRow.corpus_id == corpus_id)
        with self._rows.reading() as session:
            row = session.scalars(query.order_by(JobRow.id.desc()).limit(1)).first() if is_id(corpus_id) else None
            return Job.of(row) if row else None

    def all(self, corpus_id: int) -> list[Shortening]:
        """Every shortening of a corpus that changed a row, newest first, those that were undone among them."""
        query = select(
            EditRow.job_id,
            func.count(),
            func.min(EditRow.created_at),
            func.max(EditRow.undone_at),
            func.count(EditRow.undone_at),
            JobRow.result,
        )
        query = query.join(JobRow, JobRow.id == EditRow.job_id).where(EditRow.corpus_id == corpus_id)
        query = query.group_by(EditRow.job_id, JobRow.id).order_by(EditRow.job_id.desc())
        with self._rows.reading() as session:
            found = session.execute(query).all() if is_id(corpus_id) else []
        return [
            Shortening(
                job_id, corpus_id, count, result["left"], result["max_length"], made, gone if undone == count else None
            )
            for job_id, count, made, gone, undone, result in found
        ]

    def undo(self, shortening_id: int) -> Shortening:
        """Take all of it back: the rows are what they were before."""
        return self._set_undone(shortening_id, time.time())

    def redo(self, shortening_id: int) -> Shortening:
        """Shorten what was taken back again."""
        return self._set_undone(shortening_id, None)

    def _set_undone(self, shortening_id: int, undone_at: float | None) -> Shortening:
        with self._rows.writing() as session:
            of_it = EditRow.job_id == shortening_id
            row = session.scalars(select(EditRow).where(of_it).limit(1)).first() if is_id(shortening_id) else None
            if row is None:
                raise UserError(f"Shortening {shortening_id} does not exist. It may have been deleted.")
            session.execute(update(EditRow).where(of_it).values(undone_at=undone_at))
            tell(session, *topics_of(row))
            self.edits.settle(session, corpus_id := row.corpus_id)
        return next(one for one in self.all(corpus_id) if one.id == shortening_id)


def _finding(report: Quality, kind: str) -> Any:
    """The finding of this kind.

    Raises:
        UserError: When there is none.
    """
    for finding in report.findings:
        if finding.kind == kind:
            return finding
    known = ", ".join(one.kind for one in report.findings) or "nothing"
    raise UserError(f"The last check found no '{kind[:40]}'; it found: {known}.")


def write_shortening(session: Session, job: JobRow, home: Home) -> None:
    """Write the rows that were shortened as edits; one that somebody edited meanwhile stays as they left it."""
    if job.corpus_id is None or job.result is None:
        return
    found, folder = Shortened.load(job.result, "The job"), home.corpus(job.corpus_id)
    imported = Corpus(folder, "")
    if imported.manifest.content_hash != found.corpus_hash:
        return  # the files were read again meanwhile: these positions name other rows
    count = len(imported)
    before = read_edits(folder, found.edits, count).wordings()
    after, now = read_edits(folder, found.layer, count).wordings(), Edits.current_in(session, job.corpus_id)
    session.add_all(
        EditRow(corpus_id=job.corpus_id, position=position, job_id=job.id, **after[position]._asdict())
        for position in found.positions
        if now.get(position) == before.get(position)
    )
    session.flush()
    Edits.settle_in(session, folder, job.corpus_id)
