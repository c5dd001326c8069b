"""The part of the store that holds runs: trained here, or imported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hydralora.base_folder import name_base
from hydralora.checkpoints import CONFIG, FACTS, WEIGHTS, list_checkpoints
from hydralora.config import RunConfig, parse_config
from hydralora.errors import UserError
from hydralora.foreign_files import check_names
from hydralora.methods import METHODS
from jobs.corpora import CorpusRows
from jobs.records import Run, Step
from jobs.rows import clean_name
from jobs.status import JobStatus
from jobs.tables import Analyses, Jobs, Metrics, Runs

PLAIN = ("lora", "thanora", "meta_lora", "lorahub")  # methods whose adapters are plain LoRAs


class RunRows(CorpusRows):
    """Runs with their steps and checkpoints."""

    def start_run(self, corpus_id: int, config: dict[str, Any], *, name: str = "", is_sample: bool = False) -> Run:
        """Queue a training run with a checked configuration."""
        corpus = self.ready_corpus(corpus_id)
        checked = parse_config(config)
        checked = checked.model_copy(update={"base": name_base(checked.base)})
        self._check_sources(checked)
        clustering = self.latest_clustering(corpus_id, finished=True)
        estimate = self.speeds.estimate(corpus_id, checked)
        with Session(self.write_engine) as session, session.begin():
            row = Runs(name=clean_name(name or f"{checked.method} on {corpus.name}"), corpus_id=corpus_id,
                       clustering_id=clustering.id if clustering else None, config=checked.model_dump(),
                       is_sample=is_sample)  # fmt: skip
            session.add(row)
            session.flush()
            self._queue_training(session, row, estimate=estimate)
            return Run.of(row, job=self._job(session, row.job_id))

    def import_run(
        self, files: list[Path], *, base: str = "", corpus_id: int | None = None, name: str = "",
        keep_files: bool = True,
    ) -> Run:  # fmt: skip
        """Queue the import of an adapter from elsewhere; its files are copied (or moved) into the studio's folder first.

        Args:
            files: ``adapter_config.json`` and ``adapter_model.safetensors``, or a zip of both.
            base: The base it was trained on; empty takes the one that the adapter names.
            corpus_id: The corpus its gates and answers are measured on, if any.

        Raises:
            UserError: When no weights are given, a file cannot be copied, the base is none, or the corpus is not ready.
        """
        if not files:
            raise UserError(f"No file was given. Choose {CONFIG} and {WEIGHTS}, or a zip of both.")
        wanted = [file for file in files if file.name in (CONFIG, WEIGHTS, FACTS) or file.suffix.lower() == ".zip"]
        if not any(file.suffix.lower() == ".zip" for file in wanted):
            check_names([file.name for file in files])
        named = name_base(base.strip()) if base.strip() else None
        corpus = self.ready_corpus(corpus_id) if corpus_id is not None else None
        clustering = self.latest_clustering(corpus.id, finished=True) if corpus else None
        config = parse_config({"base": named or "starter", "method": "lora"})  # until the files have been read
        with self._taken_in(wanted, keep_files) as settle, Session(self.write_engine) as session, session.begin():
            row = Runs(name=clean_name(name or "Imported adapter"), corpus_id=corpus_id, config=config.model_dump(),
                       clustering_id=clustering.id if clustering else None)  # fmt: skip
            session.add(row)
            session.flush()
            self._queue_import(session, row, {"files": settle(f"run-{row.id}"), "base": named})
            return Run.of(row, job=self._job(session, row.job_id))

    def use_corpus(self, run_id: int, corpus_id: int) -> Run:
        """Give an imported adapter that came without a corpus one to be measured on, for good.

        Raises:
            UserError: When the run has a corpus already, or this one is not ready.
        """
        corpus = self.ready_corpus(corpus_id)
        clustering = self.latest_clustering(corpus.id, finished=True)
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Runs, run_id, "Run")
            if row.corpus_id is not None:
                raise UserError(
                    f"Run {run_id} has corpus {row.corpus_id} already. Choose another on Inspect for a look."
                )
            row.corpus_id, row.clustering_id = corpus.id, clustering.id if clustering else None
        return self.run(run_id)

    def _queue_import(self, session: Session, row: Runs, given: dict[str, Any]) -> None:
        payload = {"run_id": row.id, "files": given["files"], "base": given["base"]}
        row.job_id = self.queue.add(session, "import", payload, run_id=row.id, max_attempts=2).id
        session.flush()

    def _check_sources(self, config: RunConfig) -> None:
        """Refuse to mix runs that are unfinished, on another base, or no plain LoRA."""
        if "sources" not in METHODS[config.method].options.model_fields:
            return
        if not config.adapter["sources"]:
            raise UserError(f"{METHODS[config.method].title} mixes finished LoRA runs. Name their ids in `sources`.")
        for run_id in config.adapter["sources"]:
            run = self.run(run_id)
            if run.summary is None:
                raise UserError(f"Run {run_id} is not finished ({run.status}) and cannot be mixed yet.")
            if run.config["method"] not in PLAIN:
                raise UserError(
                    f"Run {run_id} is no plain LoRA ({run.config['method']}). Choose from: {', '.join(PLAIN)}."
                )
            if run.config["base"] != config.base:
                raise UserError(
                    f"Run {run_id} has base {run.config['base']}, not {config.base}. Choose runs on one base."
                )

    def _queue_training(self, session: Session, row: Runs, *, estimate: float | None) -> None:
        payload = {"run_id": row.id, "corpus_id": row.corpus_id, "clustering_id": row.clustering_id,
                   "config": row.config, "estimated_seconds": estimate}  # fmt: skip
        row.job_id = self.queue.add(session, "train", payload, corpus_id=row.corpus_id, run_id=row.id).id
        session.flush()

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return self._newest_first(Runs, Run)

    def run(self, run_id: int) -> Run:
        """One run; UserError when it does not exist."""
        return self._one(Runs, Run, run_id, "Run")

    def stop_run(self, run_id: int) -> Run:
        """Ask a run to stop; it writes a checkpoint first and can be resumed."""
        run = self.run(run_id)
        if run.job is None or run.job.is_finished:
            raise UserError(f"Run {run_id} has already finished ({run.status}) and cannot be stopped.")
        self.queue.stop(run.job.id)
        return self.run(run_id)

    def resume_run(self, run_id: int) -> Run:
        """Queue a stopped, failed or lost run again; it goes on from its last whole checkpoint.

        An imported adapter whose base was not there is compared with it again.
        """
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Runs, run_id, "Run")
            job = self._job(session, row.job_id)
            if job is not None and not job.is_finished:
                raise UserError(f"Run {run_id} is {job.status}; there is nothing to resume.")
            unsure = job is not None and job.kind == "import" and (row.summary or {}).get("base_problem")
            if job is not None and job.status == JobStatus.SUCCEEDED and not unsure:
                raise UserError(f"Run {run_id} has finished all its steps. Start a new run for more.")
            if unsure:  # the adapter is here; it is compared with its base again
                self._queue_import(session, row, {"files": [], "base": row.config["base"]})
            elif job is not None and job.kind == "import":
                self._queue_import(session, row, job.payload)
            else:
                self._queue_training(session, row, estimate=None)
        return self.run(run_id)

    def rename_run(self, run_id: int, name: str) -> None:
        """Give a run another name."""
        with Session(self.write_engine) as session, session.begin():
            self._get(session, Runs, run_id, "Run").name = clean_name(name)

    def delete_run(self, run_id: int) -> None:
        """Delete a run with its checkpoints, metrics and analyses; refused while it is worked on."""
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Runs, run_id, "Run")
            self._refuse_busy(session, Jobs.run_id == run_id, f"Run {run_id}")
            analyses = session.scalars(select(Analyses).where(Analyses.run_id == run_id)).all()
            folders = [self.home.analysis(a.id) for a in analyses]
            folders += [self.home.run(run_id), self.home.uploads / f"run-{run_id}"]
            session.execute(delete(Analyses).where(Analyses.run_id == run_id))
            session.execute(delete(Metrics).where(Metrics.run_id == run_id))
            session.delete(row)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def steps(self, run_id: int, after: int = -1) -> list[Step]:
        """Recorded steps of a run beyond step ``after``, in order."""
        query = select(Metrics).where(Metrics.run_id == run_id, Metrics.step > after).order_by(Metrics.step)
        with Session(self.engine) as session:
            return [Step.of(row) for row in session.scalars(query)]

    def checkpoints(self, run_id: int) -> list[int]:
        """Steps at which a run has a complete checkpoint."""
        return list_checkpoints(self.home.run(run_id))
