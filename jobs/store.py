"""Every read and write of the database; the only place with sessions.

Promises:

- What is given out are frozen copies (``records.py``), never live rows.
- A corpus, clustering, run or analysis and the job that fills it appear together or not at all.
- Only the worker writes results, after the files are in place.
- A corpus that a run uses, and a run that something works on, are not deleted.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from hydralora.base_folder import name_base
from hydralora.checkpoints import list_checkpoints
from hydralora.config import RunConfig, parse_config
from hydralora.errors import UserError
from hydralora.methods import METHODS, export_ways
from jobs.chats import Chats
from jobs.database import migrate, open_engine, writing
from jobs.home import Home
from jobs.queue import Queue
from jobs.records import Analysis, Clustering, Corpus, Job, Run, Step
from jobs.speeds import Speeds
from jobs.status import FINISHED, JobStatus
from jobs.tables import Analyses, Clusterings, Corpora, Jobs, Metrics, Runs, Settings

NAME_LIMIT = 80
PLAIN = ("lora", "thanora", "meta_lora", "lorahub")  # methods whose adapters are plain LoRAs
LONG_ANALYSES = ("experts",)  # they wait behind the quick ones
# Kinds of analyses, each with the version of what it writes: raise it when that changes, and what is stored from
# before is measured again when somebody looks.
ANALYSES = {"routing": 1, "weights": 1, "map": 1, "answers": 2, "experts": 1, "compare": 1, "export": 1}
ON_CORPUS = ("routing", "answers", "experts", "export")  # measured on examples


class Store:
    """Corpora, clusterings, runs, metrics and analyses; ``queue`` and ``chats`` beside them."""

    def __init__(self, home: Home, engine: Engine | None = None) -> None:
        self.home = home
        if engine is None:
            migrate(home.database_url)
        self.engine = engine or open_engine(home.database_url)
        self.write_engine = writing(self.engine)
        self.queue = Queue(self.engine)
        self.chats = Chats(self.engine)
        self.speeds = Speeds(self.engine, self.queue)

    def _job(self, session: Session, job_id: int | None) -> Job | None:
        row = session.get(Jobs, job_id) if job_id else None
        return Job.of(row) if row else None

    def _get(self, session: Session, table: Any, row_id: int, word: str) -> Any:
        row = session.get(table, row_id)
        if row is None:
            raise UserError(f"{word} {row_id} does not exist. It may have been deleted.")
        return row

    # Corpora

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
        with Session(self.write_engine) as session, session.begin():
            row = Corpora(name=clean_name(name), is_sample=is_sample)
            session.add(row)
            session.flush()
            stored = self._take_in(f"corpus-{row.id}", files, keep_files)
            payload = {"corpus_id": row.id, "files": stored, "roles": roles}
            job = self.queue.add(session, "ingest", payload, corpus_id=row.id, max_attempts=2)
            row.job_id = job.id
            session.flush()
            return Corpus.of(row, job=Job.of(job))

    def _take_in(self, name: str, files: list[Path], keep: bool) -> list[str]:
        folder = self.home.uploads / name
        shutil.rmtree(folder, ignore_errors=True)
        stored = []
        try:
            for number, file in enumerate(files):
                target = folder / str(number) / safe_file_name(file.name)
                target.parent.mkdir(parents=True)
                (shutil.copyfile if keep else shutil.move)(file, target)
                stored.append(str(target.relative_to(self.home.uploads)))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"{error.filename or files[0].name}: {error.strerror}. Choose another file.") from error
        return stored

    def corpora(self) -> list[Corpus]:
        """All corpora, newest first."""
        with Session(self.engine) as session:
            rows = session.scalars(select(Corpora).order_by(Corpora.id.desc())).all()
            return [Corpus.of(row, job=self._job(session, row.job_id)) for row in rows]

    def corpus(self, corpus_id: int) -> Corpus:
        """One corpus; UserError when it does not exist."""
        with Session(self.engine) as session:
            row = self._get(session, Corpora, corpus_id, "Corpus")
            return Corpus.of(row, job=self._job(session, row.job_id))

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
        return self.corpus(corpus_id)

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
            for clustering in clusterings:
                session.delete(clustering)
            session.flush()
            session.delete(row)
        for folder in [*folders, self.home.uploads / f"corpus-{corpus_id}"]:
            shutil.rmtree(folder, ignore_errors=True)

    def _refuse_busy(self, session: Session, where: Any, what: str) -> None:
        busy = session.scalar(select(Jobs.id).where(where, Jobs.status.not_in(FINISHED)).limit(1))
        if busy:
            raise UserError(f"{what} is in use by job {busy}. Stop that job first.")

    # Clusterings

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
        with Session(self.engine) as session:
            row = self._get(session, Clusterings, clustering_id, "Clustering")
            return Clustering.of(row, job=self._job(session, row.job_id))

    def latest_clustering(self, corpus_id: int | None, *, finished: bool = False) -> Clustering | None:
        """The newest clustering of a corpus (that has a result, where ``finished``), or None."""
        query = select(Clusterings).where(Clusterings.corpus_id == corpus_id).order_by(Clusterings.id.desc())
        with Session(self.engine) as session:
            for row in session.scalars(query):
                if row.result is not None or not finished:
                    return Clustering.of(row, job=self._job(session, row.job_id))
        return None

    # Runs

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
            UserError: When no file is given, one cannot be copied, the base is none, or the corpus is not ready.
        """
        if not files:
            raise UserError(
                "No file was given. Choose adapter_config.json and adapter_model.safetensors, or a zip of both."
            )
        named = name_base(base.strip()) if base.strip() else None
        corpus = self.ready_corpus(corpus_id) if corpus_id is not None else None
        clustering = self.latest_clustering(corpus.id, finished=True) if corpus else None
        config = parse_config({"base": named or "starter", "method": "lora"})  # until the files have been read
        with Session(self.write_engine) as session, session.begin():
            row = Runs(name=clean_name(name or "Imported adapter"), corpus_id=corpus_id, config=config.model_dump(),
                       clustering_id=clustering.id if clustering else None)  # fmt: skip
            session.add(row)
            session.flush()
            stored = self._take_in(f"run-{row.id}", files, keep_files)
            self._queue_import(session, row, {"files": stored, "base": named})
            return Run.of(row, job=self._job(session, row.job_id))

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
        with Session(self.engine) as session:
            rows = session.scalars(select(Runs).order_by(Runs.id.desc())).all()
            return [Run.of(row, job=self._job(session, row.job_id)) for row in rows]

    def run(self, run_id: int) -> Run:
        """One run; UserError when it does not exist."""
        with Session(self.engine) as session:
            row = self._get(session, Runs, run_id, "Run")
            return Run.of(row, job=self._job(session, row.job_id))

    def stop_run(self, run_id: int) -> Run:
        """Ask a run to stop; it writes a checkpoint first and can be resumed."""
        run = self.run(run_id)
        if run.job is None or run.job.is_finished:
            raise UserError(f"Run {run_id} has already finished ({run.status}) and cannot be stopped.")
        self.queue.stop(run.job.id)
        return self.run(run_id)

    def resume_run(self, run_id: int) -> Run:
        """Queue a stopped, failed or lost run again; it goes on from its last whole checkpoint."""
        with Session(self.write_engine) as session, session.begin():
            row = self._get(session, Runs, run_id, "Run")
            job = self._job(session, row.job_id)
            if job is not None and not job.is_finished:
                raise UserError(f"Run {run_id} is {job.status}; there is nothing to resume.")
            if job is not None and job.status == JobStatus.SUCCEEDED:
                raise UserError(f"Run {run_id} has finished all its steps. Start a new run for more.")
            if job is not None and job.kind == "import":
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

    # Analyses

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
        with Session(self.write_engine) as session, session.begin():
            row = Analyses(run_id=run_id, kind=kind, params=params or {})
            session.add(row)
            session.flush()
            payload = {"analysis_id": row.id, "run_id": run_id, "corpus_id": run.corpus_id, "version": ANALYSES[kind],
                       "clustering_id": run.clustering_id, **(params or {})}  # fmt: skip
            job = self.queue.add(
                session, kind, payload, run_id=run_id, corpus_id=corpus_id if kind in ON_CORPUS else None,
                priority=-(kind in LONG_ANALYSES),
            )  # fmt: skip
            row.job_id = job.id
            session.flush()
            return Analysis.of(row, job=Job.of(job))

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
        with Session(self.engine) as session:
            row = self._get(session, Analyses, analysis_id, "Analysis")
            return Analysis.of(row, job=self._job(session, row.job_id))

    # What the worker writes

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


def clean_name(name: str) -> str:
    """A name without control characters, at most ``NAME_LIMIT`` long.

    Raises:
        UserError: When nothing is left.
    """
    kept = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]+", " ", name).strip()[:NAME_LIMIT]
    if not kept:
        raise UserError("The name is empty. Give it one.")
    return kept


def safe_file_name(name: str) -> str:
    """The last part of an uploaded name, reduced to harmless characters; its ending is kept."""
    kept = re.sub(r"[^\w.\- ()]+", "_", Path(name.replace("\\", "/")).name)[-100:].lstrip(".")
    return kept or "file"
