"""Analyses: stored looks into runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.adapters.card import check_repository
from hydralora.errors import UserError
from hydralora.methods import FORMS, METHODS, export_ways
from hydralora.plain import shown
from jobs.kinds import kind_of, looks
from jobs.store.bases import is_hub_allowed
from jobs.store.records import Analysis, Job, Run
from jobs.store.rows import Rows
from jobs.store.runs import Runs
from jobs.store.status import JobStatus
from jobs.store.tables import AnalysisRow, CorpusRow, JobRow, find_row, is_id

OWN = 0  # the corpus of whichever run is looked at: no corpus has this id
BAD = frozenset({JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST})  # ended without an answer


def question_of(kind: str, params: dict[str, Any] | None = None) -> str:
    """What is asked about a run, as one name: SHA-256 of kind, version and parameters, whatever their order.

    Raises:
        UserError: When there is no such kind.
    """
    former = kind_of(kind).former
    asked = {former.get(name, name): value for name, value in (params or {}).items()}
    text = json.dumps([kind, kind_of(kind).version, asked], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def export_params(how: str, form: str = "safetensors") -> dict[str, Any]:
    """The parameters of an export; safetensors is not named, as in the exports of earlier versions."""
    return {"how": how} if form == "safetensors" else {"how": how, "form": form}


class Analyses:
    """Analyses and exports."""

    def __init__(self, rows: Rows, runs: Runs) -> None:
        self.runs, self._rows = runs, rows

    def ask(self, run_id: int, kind: str, params: dict[str, Any] | None = None) -> Analysis:
        """The analysis with these parameters: the stored one, or a newly queued one.

        ``corpus_id``, ``clustering_id`` and ``grouping`` among ``params`` take the place of the run's own.
        """
        if kind not in looks():
            raise UserError(f"Analysis '{kind}' is unknown. Choose one of: {', '.join(looks())}.")
        is_on_corpus = kind_of(kind).on_corpus
        run = self.runs.get(run_id)
        if run.summary is None:
            raise UserError(f"Run {run_id} is not finished ({run.status}), so there is no adapter to look into yet.")
        known = self.find(run_id, kind, params)
        if known is not None:
            return known
        corpus_id = (params or {}).get("corpus_id", run.corpus_id)
        if is_on_corpus:
            if corpus_id is None:
                raise UserError(f"Run {run_id} has no corpus of its own. Choose one to measure it on.")
            self.runs.corpora.ready(corpus_id)
        question = question_of(kind, params)
        latest = None if run.clustering_id else self.runs.clusterings.latest(run.corpus_id, finished=True)
        clustering_id = run.clustering_id or (latest.id if latest else None)
        grouping = run.grouping if run.clustering_id else (latest.grouping if latest else None)
        with self._rows.writing() as session:
            asked = self._asked(session, run_id, question)
            if asked is not None and asked[1].status not in BAD:  # by somebody else, a moment ago
                return Analysis.of(asked[0], job=Job.of(asked[1]))
            if asked is not None:
                asked[0].question = None
                session.flush()
            row = AnalysisRow(run_id=run_id, kind=kind, params=params or {}, question=question)
            session.add(row)
            session.flush()
            payload = {
                "analysis_id": row.id,
                "run_id": run_id,
                "corpus_id": run.corpus_id,
                "version": kind_of(kind).version,
                "clustering_id": clustering_id,
                "grouping": None if "clustering_id" in (params or {}) else grouping,
                **(params or {}),
                "is_own": corpus_id == run.corpus_id and not run.is_imported,
            }
            job = self.runs.queue.add(
                session,
                kind,
                payload,
                run_id=run_id,
                corpus_id=corpus_id if is_on_corpus else None,
                priority=kind_of(kind).priority,
            )
            row.job_id = job.id
            session.flush()
            return Analysis.of(row, job=Job.of(job))

    def measured_on(self, run: Run, corpus_id: int | None) -> dict[str, Any] | None:
        """What names a corpus in the parameters of an analysis: nothing for the run's own, None where there is none.

        ``OWN``, None and a corpus that does not exist (any more) stand for the run's own.
        """
        with self._rows.reading() as session:
            known = corpus_id not in (None, OWN, run.corpus_id) and find_row(session, CorpusRow, corpus_id) is not None
        if corpus_id is None or not known:
            return None if run.corpus_id is None else {}
        clustering = self.runs.clusterings.latest(corpus_id, finished=True)
        edited = {"grouping": clustering.grouping} if clustering and clustering.grouping else {}
        return {"corpus_id": corpus_id, "clustering_id": clustering.id if clustering else None, **edited}

    def export(self, run_id: int, how: str, form: str = "safetensors") -> Analysis:
        """The export of a run in one of its method's ways and forms: the stored one, or a newly queued one.

        Raises:
            UserError: When the run's method does not allow it, with the ways that it does, or there is no such form.
        """
        if form not in FORMS:
            raise UserError(f"`form` must be one of {', '.join(FORMS)}, got {shown(form)}.")
        run = self.runs.get(run_id)
        ways = export_ways(run.method, run.config.adapter)
        if how not in ways:
            title = METHODS[run.method].title
            raise UserError(
                f"Run {run_id} ({title}) cannot be exported as '{how}'. "
                + (f"Choose one of: {', '.join(ways)}." if ways else "It changes no weights; take its own files.")
            )
        return self.ask(run_id, "export", export_params(how, form))

    def push(self, analysis_id: int, repository: str, *, private: bool = True) -> Job:
        """Queue sending a finished export to the hub.

        Raises:
            UserError: When it is no finished export, the name is none, or hub ids are refused here.
        """
        if not is_hub_allowed():
            raise UserError("Models are not sent to the hub from here: HYDRA_STUDIO_HUB says no.")
        found = self.get(analysis_id)
        if found.kind != "export" or found.job is None or found.job.status != JobStatus.SUCCEEDED:
            raise UserError("There is no finished export of this number. Export the run first.")
        answers = self.find(found.run_id, "answers")
        is_measured = answers is not None and answers.job is not None and answers.job.status == JobStatus.SUCCEEDED
        payload = {
            "analysis_id": found.id,
            "run_id": found.run_id,
            "repository": check_repository(repository),
            "private": private,
            "answers_id": answers.id if answers is not None and is_measured else None,
        }
        return self.runs.queue.submit("push", payload, max_attempts=1, run_id=found.run_id)

    def find(
        self, run_id: int, kind: str, params: dict[str, Any] | None = None, *, failed: bool = False
    ) -> Analysis | None:
        """The newest analysis with these parameters that has not failed (or even so), or None."""
        if not is_id(run_id):
            return None
        with self._rows.reading() as session:
            asked = self._asked(session, run_id, question_of(kind, params))
            if asked is None or (asked[1].status in BAD and not failed):
                return None
            return Analysis.of(asked[0], job=Job.of(asked[1]))

    def of_runs(self, run_ids: Collection[int], kind: str) -> dict[int, Analysis]:
        """The analysis of this kind without parameters of each of some runs that has one, by the run's id."""
        query = select(AnalysisRow, JobRow).join(JobRow, JobRow.id == AnalysisRow.job_id)
        query = query.where(AnalysisRow.run_id.in_(run_ids), AnalysisRow.question == question_of(kind))
        with self._rows.reading() as session:
            return {row.run_id: Analysis.of(row, job=Job.of(job)) for row, job in session.execute(query)}

    @staticmethod
    def _asked(session: Session, run_id: int, question: str) -> tuple[AnalysisRow, JobRow] | None:
        """The newest answer to a question about a run, with its job."""
        query = select(AnalysisRow, JobRow).join(JobRow, JobRow.id == AnalysisRow.job_id)
        found = session.execute(query.where(AnalysisRow.run_id == run_id, AnalysisRow.question == question)).first()
        return (found[0], found[1]) if found else None

    def get(self, analysis_id: int) -> Analysis:
        """One analysis; UserError when it does not exist."""
        return self._rows.one(AnalysisRow, Analysis, analysis_id, "Analysis")
