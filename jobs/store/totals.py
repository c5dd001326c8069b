"""Totals: how much there is of everything, in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, union_all

from jobs.store.changes import WORKER_GONE_SECONDS
from jobs.store.clock import lately
from jobs.store.rows import Rows
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.tables import CorpusRow, JobRow, RunRow, WorkerRow


@dataclass(frozen=True)
class Totals:
    """Numbers of a home: of corpora and their examples, runs and those that succeeded, jobs, and live workers."""

    corpora: int
    examples: int
    runs: int
    runs_done: int
    jobs_waiting: int
    jobs_running: int
    workers: int
    has_samples: bool


def read_totals(rows: Rows) -> Totals:
    """Count everything at one moment."""

    def count(row_id: Any, *where: Any) -> Any:
        return select(func.count(row_id)).where(*where).scalar_subquery()

    own_job = RunRow.job_id == JobRow.id
    samples = union_all(*(select(table.id).where(table.is_sample) for table in (RunRow, CorpusRow))).subquery()
    query = select(
        count(CorpusRow.id),
        select(func.coalesce(func.sum(CorpusRow.examples), 0)).scalar_subquery(),
        count(RunRow.id),
        count(RunRow.id, own_job, JobRow.status == JobStatus.SUCCEEDED),
        count(JobRow.id, JobRow.status == JobStatus.QUEUED),
        count(JobRow.id, JobRow.status.in_(ACTIVE)),
        count(WorkerRow.name, lately(WorkerRow.seen_at, WORKER_GONE_SECONDS)),
        select(func.count()).select_from(samples).scalar_subquery(),
    )
    with rows.reading() as session:
        *numbers, sampled = session.execute(query).one()
    corpora, examples, runs, done, waiting, running, workers = numbers
    return Totals(corpora, examples, runs, done, waiting, running, workers, sampled > 0)
