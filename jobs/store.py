"""Every read and write of the database; the only place with sessions, together with the parts it is made of.

Promises:

- What is given out are frozen copies (``records.py``), never live rows.
- A corpus, clustering, run or analysis and the job that fills it appear together or not at all.
- Only the worker writes results, after the files are in place.
- A corpus that a run uses, and a run that something works on, are not deleted.
"""

from __future__ import annotations

import shutil
from typing import Any

from sqlalchemy.orm import Session

from jobs.analyses import AnalysisRows
from jobs.records import Job
from jobs.status import FINISHED, JobStatus
from jobs.tables import Clusterings, Corpora, Jobs, Metrics, Runs, Settings


class Store(AnalysisRows):
    """Corpora, clusterings, runs, metrics and analyses, and what the worker writes into them."""

    def add_steps(self, job: Job, steps: list[dict[str, Any]], offset: int) -> None:
        """Store steps read from a job's file up to byte ``offset``; a step known is overwritten."""
        with Session(self.write_engine) as session, session.begin():
            row = session.get(Jobs, job.id)
            if row is None or row.attempt != job.attempt or row.worker != job.worker:
                return
            for item in steps:
                self._add_step(session, item)
            row.metrics_offset = offset

    def _add_step(self, session: Session, item: dict[str, Any]) -> None:
        values = dict(item["values"])
        gates = values.pop("gates", None)
        known = session.get(Metrics, (item["run_id"], item["step"]))
        if known is None:
            session.add(Metrics(run_id=item["run_id"], step=item["step"], numbers=values, gates=gates))
        else:
            known.numbers = {**known.numbers, **values}
            known.gates = gates or known.gates

    def finish(self, job: Job, status: JobStatus, now: float, **values: Any) -> bool:
        """End a job and write its result where it belongs, in one transaction."""
        with Session(self.write_engine) as session, session.begin():
            row = session.get(Jobs, job.id)
            if (
                row is None
                or row.attempt != job.attempt
                or row.worker != job.worker
                or JobStatus(row.status) in FINISHED
            ):
                return False
            row.status, row.finished_at = status, now
            for name, value in values.items():
                setattr(row, name, value)
            if status == JobStatus.SUCCEEDED:
                row.progress = 1.0
                self._apply(session, row)
        if job.kind == "import" and status == JobStatus.SUCCEEDED:
            shutil.rmtree(self.home.uploads / f"run-{job.run_id}", ignore_errors=True)
        return True

    def _apply(self, session: Session, job: Jobs) -> None:
        result = job.result or {}
        if job.kind == "ingest" and (corpus := session.get(Corpora, job.corpus_id)):
            corpus.examples, corpus.rejected, corpus.format = (result[k] for k in ("examples", "rejected", "format"))
        elif job.kind == "cluster" and (row := session.get(Clusterings, job.payload["clustering_id"])):
            row.result, row.k = result, result["k"]
        elif job.kind == "speed":
            session.merge(Settings(key=job.payload["key"], value=result))
        elif job.kind == "train" and (run := session.get(Runs, job.run_id)):
            run.summary = result
        elif job.kind == "import" and (run := session.get(Runs, job.run_id)):
            run.config, run.summary = result["config"], result["summary"]

    # What the studio remembers

    def setting(self, key: str) -> dict[str, Any] | None:
        """A remembered value, or None."""
        with Session(self.engine) as session:
            row = session.get(Settings, key)
            return dict(row.value) if row else None

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Remember a value."""
        with Session(self.write_engine) as session, session.begin():
            session.merge(Settings(key=key, value=value))

    def log_tail(self, job: Job, limit: int = 12_000) -> str:
        """The last ``limit`` bytes of a job's log."""
        path = self.home.job(job.id, job.attempt) / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - limit))
            return file.read().decode("utf-8", "replace")
