"""Runs: trained here, or imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hydralora.adapters.files import check_names
from hydralora.config import RunConfig, parse_config
from hydralora.errors import UserError
from hydralora.files import CONFIG, FACTS, WEIGHTS
from hydralora.methods import METHODS
from hydralora.options import sources_of
from hydralora.results import CorpusManifest, TrainingSet
from hydralora.training.objective import check_objective
from jobs.home import Home
from jobs.kinds import kind_of
from jobs.store.attempts import is_held
from jobs.store.bases import Bases
from jobs.store.clusterings import Clusterings
from jobs.store.edits import Edits
from jobs.store.events import events_of, move
from jobs.store.exclusions import Exclusions
from jobs.store.intake import taken_in
from jobs.store.queue import Queue
from jobs.store.records import Event, Job, Run, Step
from jobs.store.rows import Rows, clean_name, job_of, jobs_with, refuse_busy, row_of
from jobs.store.speeds import Speeds
from jobs.store.status import JobStatus
from jobs.store.steps import Steps
from jobs.store.tables import AnalysisRow, GateLayersRow, GateRow, JobRow, RunRow, StepRow, is_id

PLAIN = ("lora", "thanora", "meta_lora", "lorahub")  # methods whose adapters are plain LoRAs


class Runs:
    """Runs with their steps and checkpoints; ``bases`` is the list of base models they may have."""

    def __init__(
        self,
        home: Home,
        rows: Rows,
        queue: Queue,
        clusterings: Clusterings,
        exclusions: Exclusions,
        edits: Edits,
        speeds: Speeds,
        bases: Bases,
    ) -> None:
        self.home, self.queue, self.speeds, self.bases, self._rows = home, queue, speeds, bases, rows
        self.exclusions, self.edits = exclusions, edits
        self.clusterings, self.corpora, self._steps = clusterings, clusterings.corpora, Steps(rows)

    def folders_of_bases(self) -> list[str]:
        """Folders that runs have as their base; not what a stranger's adapter has only named."""
        runs = [run for run in self.all() if not (run.summary and run.summary.base_problem)]
        folders = [str(run.stored_config.get("base", "")) for run in runs]
        return [folder for folder in folders if Path(folder).is_absolute()]

    def start(
        self,
        corpus_id: int,
        config: dict[str, Any],
        *,
        name: str = "",
        is_sample: bool = False,
        selection: str | None = None,
        edits: str | None = None,
        after: Iterable[int] = (),
    ) -> Run:
        """Queue a training run with a checked configuration.

        Args:
            after: Ids of jobs that must have succeeded before it begins.
            selection: The name of what is left out, as another run has it; what the corpus leaves out now where None.
            edits: The name of the layer of edited rows, as another run has it; the newest where None.
        """
        corpus = self.corpora.ready(corpus_id)
        checked = parse_config(config)
        asks_pairs = checked.train.objective == "dpo"
        check_objective(checked, CorpusManifest.read(self.home.corpus(corpus_id)).counts.pairs if asks_pairs else 0)
        left_out = self.exclusions.selection(corpus_id) if selection is None else selection
        layer = self.edits.layer(corpus_id) if edits is None else edits
        train = checked.train.model_copy(update={"selection": left_out, "edits": layer})
        checked = checked.model_copy(update={"base": self.bases.look(checked.base), "train": train})
        self._check_sources(checked)
        clustering = self.clusterings.latest(corpus_id, finished=True)
        estimate = self.speeds.estimate(corpus, checked)
        with self._rows.writing() as session:
            row = RunRow(
                name=clean_name(name or f"{METHODS[checked.method].title} on {corpus.name}"),
                corpus_id=corpus_id,
                clustering_id=clustering.id if clustering else None,
                grouping=(clustering.grouping or None) if clustering else None,
                config=checked.model_dump(),
                is_sample=is_sample,
            )
            session.add(row)
            session.flush()
            self._queue_training(session, row, estimate=estimate, after=after)
            return Run.of(row, job=job_of(session, row.job_id))

    def import_adapter(
        self,
        files: list[Path],
        *,
        base: str = "",
        corpus_id: int | None = None,
        name: str = "",
        keep_files: bool = True,
    ) -> Run:
        """Queue the import of an adapter from elsewhere; its files come into the studio's folder first.

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
        named = self.bases.look(base) if base.strip() else None
        corpus = self.corpora.ready(corpus_id) if corpus_id is not None else None
        clustering = self.clusterings.latest(corpus.id, finished=True) if corpus else None
        config = parse_config({"base": named or "starter", "method": "lora"})  # until the files have been read
        with taken_in(self.home, wanted, keep=keep_files) as settle, self._rows.writing() as session:
            row = RunRow(
                name=clean_name(name or "Imported adapter"),
                corpus_id=corpus_id,
                config=config.model_dump(),
                clustering_id=clustering.id if clustering else None,
                grouping=(clustering.grouping or None) if clustering else None,
            )
            session.add(row)
            session.flush()
            self._queue_import(session, row, {"files": settle(f"run-{row.id}"), "base": named})
            return Run.of(row, job=job_of(session, row.job_id))

    def use_corpus(self, run_id: int, corpus_id: int) -> Run:
        """Give an imported adapter that came without a corpus one to be measured on, for good.

        Raises:
            UserError: When the run has a corpus already, or this one is not ready.
        """
        corpus = self.corpora.ready(corpus_id)
        clustering = self.clusterings.latest(corpus.id, finished=True)
        with self._rows.writing() as session:
            row = row_of(session, RunRow, run_id, "Run")
            if row.corpus_id is not None:
                raise UserError(
                    f"Run {run_id} has corpus {row.corpus_id} already. Choose another on Inspect for a look."
                )
            row.corpus_id, row.clustering_id = corpus.id, clustering.id if clustering else None
            row.grouping = (clustering.grouping or None) if clustering else None
        return self.get(run_id)

    def _queue_import(self, session: Session, row: RunRow, given: dict[str, Any]) -> None:
        payload = {"run_id": row.id, "files": given["files"], "base": given["base"]}
        row.job_id = self.queue.add(session, "import", payload, run_id=row.id, max_attempts=2).id
        session.flush()

    def _check_sources(self, config: RunConfig) -> None:
        """Refuse to mix runs that are unfinished, on another base, or no plain LoRA."""
        if METHODS[config.method].tuner != "COMPOSED":
            return
        sources = sources_of(config.adapter)
        if not sources:
            raise UserError(f"{METHODS[config.method].title} mixes finished LoRA runs. Name their ids in `sources`.")
        for run_id in sources:
            run = self.get(run_id)
            if run.summary is None:
                raise UserError(f"Run {run_id} is not finished ({run.status}) and cannot be mixed yet.")
            if run.method not in PLAIN:
                raise UserError(f"Run {run_id} is no plain LoRA ({run.method}). Choose from: {', '.join(PLAIN)}.")
            if run.base != config.base:
                raise UserError(f"Run {run_id} has base {run.base}, not {config.base}. Choose runs on one base.")

    def _queue_training(
        self, session: Session, row: RunRow, *, estimate: float | None, after: Iterable[int] = ()
    ) -> None:
        payload = {
            "run_id": row.id,
            "corpus_id": row.corpus_id,
            "clustering_id": row.clustering_id,
            "grouping": row.grouping,
            "config": row.config,
            "estimated_seconds": estimate,
        }
        row.job_id = self.queue.add(session, "train", payload, corpus_id=row.corpus_id, run_id=row.id, after=after).id
        session.flush()

    def all(self, most: int | None = None) -> list[Run]:
        """All runs, or the newest ``most``; newest first."""
        return self._rows.newest_first(RunRow, Run, most)

    def listed(self, most: int | None = None) -> list[Run]:
        """The same without those that are archived: what people choose from."""
        return self._rows.newest_first(RunRow, Run, most, [RunRow.archived_at.is_(None)])

    def get(self, run_id: int) -> Run:
        """One run; UserError when it does not exist."""
        return self._rows.one(RunRow, Run, run_id, "Run")

    def stop(self, run_id: int) -> Run:
        """Ask a run to stop; it writes a checkpoint first and can be resumed."""
        run = self.get(run_id)
        if run.job is None or run.job.is_finished:
            raise UserError(f"Run {run_id} has already finished ({run.status}) and cannot be stopped.")
        self.queue.stop(run.job.id)
        return self.get(run_id)

    def resume(self, run_id: int, *, smaller: bool = False) -> Run:
        """Queue a stopped, failed or lost run again; it goes on from its last whole checkpoint.

        An imported adapter whose base was not there is compared with it again.

        Args:
            smaller: Go on with half the examples in one forward pass and twice the passes, for good.

        Raises:
            UserError: When there is nothing to resume, or no smaller part.
        """
        with self._rows.writing() as session:
            row = row_of(session, RunRow, run_id, "Run")
            job = job_of(session, row.job_id)
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
                if smaller and not _make_smaller(row):
                    raise UserError(
                        f"Run {run_id} cannot go on in smaller parts: a forward pass holds one example, or "
                        "episodes of its own. Shorten `max_length` or take a smaller base in a new run."
                    )
                self._queue_training(session, row, estimate=None)
        return self.get(run_id)

    def retry_smaller(self, job: Job) -> bool:
        """Queue a training that ran out of memory again in smaller parts, where its settings say so.

        It is the same job, which whoever waits for it goes on waiting for. False where nothing was done: the run does
        not ask for it, somebody asked for a stop, or no part is smaller.
        """
        if not kind_of(job.kind).shrinks or job.stop_requested_at is not None or job.run_id is None:
            return False
        with self._rows.writing() as session:
            run, row = session.get(RunRow, job.run_id), session.get(JobRow, job.id, with_for_update=True)
            if run is None or row is None or not is_held(row, job) or row.status != JobStatus.RUNNING:
                return False
            if parse_config(run.config).train.on_out_of_memory != "retry" or not _make_smaller(run):
                return False
            train = run.config["train"]
            words = (
                f"Out of memory: it goes on with {train['batch_size']:,} at once and {train['accumulation']:,} passes "
                "a step"
            )
            again = {"worker": None, "process": None, "not_before": 0.0, "progress_text": words}
            payload = {**row.payload, "config": run.config}
            allowed = row.max_attempts + 1
            return move(session, row, JobStatus.QUEUED, "worker", words, payload=payload, max_attempts=allowed, **again)

    def rename(self, run_id: int, name: str) -> None:
        """Give a run another name."""
        self._rows.rename(RunRow, run_id, name, "Run")

    def delete(self, run_id: int) -> None:
        """Delete a run with its checkpoints, steps, analyses and logs; refused while it is worked on."""
        with self._rows.writing() as session:
            row = row_of(session, RunRow, run_id, "Run")
            refuse_busy(session, JobRow.run_id == run_id, f"Run {run_id}")
            analyses = session.scalars(select(AnalysisRow).where(AnalysisRow.run_id == run_id)).all()
            folders = [self.home.near.analysis(a.id) for a in analyses]
            folders += [self.home.near.run(run_id), self.home.uploads / f"run-{run_id}"]
            folders += [self.home.attempts(job) for job in jobs_with(session, JobRow.run_id == run_id)]
            session.execute(delete(AnalysisRow).where(AnalysisRow.run_id == run_id))
            for table in (StepRow, GateRow, GateLayersRow):
                session.execute(delete(table).where(table.run_id == run_id))
            session.delete(row)
        for folder in folders:
            self.home.artefacts.forget(folder)

    def steps(self, run_id: int, *, after: int = -1, most: int | None = None, gates: bool = True) -> list[Step]:
        """Recorded steps of a run beyond step ``after``, in order; with their routing weights where ``gates``.

        With ``most``, about so many evenly spread ones of more, the first, the last and those with a held-out loss
        among them; that takes a time which does not grow with the run.
        """
        return self._steps.between(run_id, after, most, gates=gates) if is_id(run_id) else []

    def routed_steps(self, run_id: int, most: int) -> list[Step]:
        """Steps of a run with routing weights, in order; about ``most`` evenly spread ones of more."""
        return self._steps.routed(run_id, most) if is_id(run_id) else []

    def newest(self, run_id: int) -> Step | None:
        """The last step of a run, with the newest of each number and the newest routing weights; None before any."""
        return self._steps.newest(run_id)

    def add_steps(self, job: Job, steps: list[dict[str, Any]], offset: int) -> None:
        """Store steps read from a job's file up to byte ``offset``; nothing when the job is no longer its worker's."""
        self._steps.add(job, steps, offset)

    def events(self, run_id: int) -> list[Event]:
        """What has become of a run's training or import, over all its jobs, oldest first."""
        kinds = ("train", "import")
        with self._rows.reading() as session:
            return events_of(session, jobs_with(session, (JobRow.run_id == run_id) & JobRow.kind.in_(kinds)))

    def training_set(self, run_id: int) -> TrainingSet | None:
        """What a run is trained on, known from its first step on; None before that, and for runs of earlier versions.

        Raises:
            ResultError: When the file is damaged.
        """
        folder = self.home.run(run_id)
        return TrainingSet.read(folder) if (folder / TrainingSet.FILE).exists() else None

    def checkpoints(self, run_id: int) -> list[int]:
        """Steps at which a run has a complete checkpoint."""
        return self.home.checkpoints(run_id)


def _make_smaller(row: RunRow) -> bool:
    """Change a run to go on in smaller parts; False where none is smaller."""
    smaller = parse_config(row.config).in_smaller_parts()
    if smaller is not None:
        row.config = smaller.model_dump()
    return smaller is not None


def write_training(session: Session, job: JobRow, home: Home) -> None:
    """Write the summary of a training into its run."""
    run = session.get(RunRow, job.run_id) if job.run_id is not None else None
    if run is not None:
        run.summary = job.result


def write_import(session: Session, job: JobRow, home: Home) -> None:
    """Write what the import of an adapter has found into its run."""
    run = session.get(RunRow, job.run_id)
    if run is not None and job.result is not None:
        run.config, run.summary = job.result["config"], job.result["summary"]
