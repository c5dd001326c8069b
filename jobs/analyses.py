"""The part of the store that holds stored looks into runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from hydralora.methods import METHODS, export_ways
from jobs.records import Analysis, Job, Run
from jobs.runs import RunRows
from jobs.status import JobStatus
from jobs.tables import Analyses

LONG_ANALYSES = ("experts",)  # they wait behind the quick ones
# Kinds of analyses, each with the version of what it writes: raise it when that changes, and what is stored from
# before is measured again when somebody looks.
ANALYSES = {"routing": 1, "weights": 1, "map": 1, "answers": 2, "experts": 1, "compare": 1, "export": 1}
OWN = 0  # the corpus of whichever run is looked at: no corpus has this id
ON_CORPUS = ("routing", "answers", "experts", "export")  # measured on examples


class AnalysisRows(RunRows):
    """Analyses and exports."""

    def analyse(self, run_id: int, kind: str, params: dict[str, Any] | None = None) -> Analysis:
        """The analysis with these parameters: the stored one, or a newly queued one.

        ``corpus_id`` and ``clustering_id`` among ``params`` take the place of the run's own.
        """
        if kind not in ANALYSES:
            raise UserError(f"Analysis '{kind}' is unknown. Choose one of: {', '.join(ANALYSES)}.")
        run = self.run(run_id)
        if run.summary is None:
            raise UserError(f"Run {run_id} is not finished ({run.status}), so there is no adapter to look into yet.")
        known = self.find_analysis(run_id, kind, params)
        if known is not None:
            return known
        corpus_id = (params or {}).get("corpus_id", run.corpus_id)
        if kind in ON_CORPUS:
            if corpus_id is None:
                raise UserError(f"Run {run_id} has no corpus of its own. Choose one to measure it on.")
            self.ready_corpus(corpus_id)
        latest = None if run.clustering_id else self.latest_clustering(run.corpus_id, finished=True)
        clustering_id = run.clustering_id or (latest.id if latest else None)
        with Session(self.write_engine) as session, session.begin():
            row = Analyses(run_id=run_id, kind=kind, params=params or {})
            session.add(row)
            session.flush()
            payload = {"analysis_id": row.id, "run_id": run_id, "corpus_id": run.corpus_id, "version": ANALYSES[kind],
                       "clustering_id": clustering_id, **(params or {}),
                       "is_own": corpus_id == run.corpus_id and not run.is_imported}  # fmt: skip
            job = self.queue.add(
                session, kind, payload, run_id=run_id, corpus_id=corpus_id if kind in ON_CORPUS else None,
                priority=-(kind in LONG_ANALYSES),
            )  # fmt: skip
            row.job_id = job.id
            session.flush()
            return Analysis.of(row, job=Job.of(job))

    def measured_on(self, run: Run, corpus_id: int | None) -> dict[str, Any] | None:
        """What names a corpus in the parameters of an analysis: nothing for the run's own, None where there is none.

        ``OWN``, None and a corpus that does not exist (any more) stand for the run's own.
        """
        known = corpus_id not in (None, OWN, run.corpus_id) and any(c.id == corpus_id for c in self.corpora())
        if corpus_id is None or not known:
            return None if run.corpus_id is None else {}
        clustering = self.latest_clustering(corpus_id, finished=True)
        return {"corpus_id": corpus_id, "clustering_id": clustering.id if clustering else None}

    def export(self, run_id: int, how: str) -> Analysis:
        """The export of a run in one of its method's ways: the stored one, or a newly queued one.

        Raises:
            UserError: When the run's method does not allow it, with the ways that it does.
        """
        config = self.run(run_id).config
        ways = export_ways(config["method"], config["adapter"])
        if how not in ways:
            title = METHODS[config["method"]].title
            raise UserError(
                f"Run {run_id} ({title}) cannot be exported as '{how}'. "
                + (f"Choose one of: {', '.join(ways)}." if ways else "It changes no weights; take its own files.")
            )
        return self.analyse(run_id, "export", {"how": how})

    def find_analysis(
        self, run_id: int, kind: str, params: dict[str, Any] | None = None, *, failed: bool = False
    ) -> Analysis | None:
        """The newest analysis with these parameters that has not failed (or even so), or None."""
        query = select(Analyses).where(Analyses.run_id == run_id, Analyses.kind == kind)
        bad = {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST}
        with Session(self.engine) as session:
            for row in session.scalars(query.order_by(Analyses.id.desc())):
                job = self._job(session, row.job_id)
                if job is None or job.payload.get("version", 1) != ANALYSES[kind]:
                    continue
                if row.params == (params or {}) and (failed or job.status not in bad):
                    return Analysis.of(row, job=job)
        return None

    def analysis(self, analysis_id: int) -> Analysis:
        """One analysis; UserError when it does not exist."""
        return self._one(Analyses, Analysis, analysis_id, "Analysis")
