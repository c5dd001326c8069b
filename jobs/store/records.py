"""What the store gives out: frozen copies of rows, safe to keep and to pass between threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar

from hydralora.bounds import MOST_EXPERTS
from hydralora.config import RunConfig, parse_config
from hydralora.errors import UserError
from hydralora.results import Clusters, ImportOptions, Part, Preview, Roles, RunSummary
from jobs.kinds import PREVIEWS
from jobs.store.status import ACTIVE, FINISHED, JobStatus

P = TypeVar("P", bound=Part)

NEWEST_LOOKS = 2  # at a corpus: its columns, and its examples as a base sees them


def typed(kind: type[P], stored: dict[str, Any] | None) -> P | None:
    """What a JSON column holds, as the type that wrote it.

    Raises:
        ResultError: When it is not what that type writes.
    """
    return None if stored is None else kind.load(stored, "The database")


@dataclass(frozen=True)
class Record:
    """A copy of one row; the fields of the subclass name its columns."""

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Copy the columns of ``row``; ``more`` gives the fields that are not columns."""
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__ if name not in more}, **more)


@dataclass(frozen=True)
class Job(Record):
    """One unit of background work. ``progress`` is 0 to 1; times are seconds since 1970."""

    id: int
    kind: str
    lane: str
    status: str
    payload: dict[str, Any]
    corpus_id: int | None
    run_id: int | None
    priority: int
    held: bool
    attempt: int
    max_attempts: int
    worker: str | None
    host: str | None
    process: dict[str, Any] | None
    token: str | None
    lease_until: float
    stop_requested_at: float | None
    metrics_offset: int
    progress: float
    progress_text: str
    result: dict[str, Any] | None
    error: str | None
    error_kind: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    silent_since: float | None = None  # not heard of since then, though it is called running

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Copy the columns of ``row``; a row that was not read from the database is silent for nobody."""
        return super().of(row, **{"silent_since": row.__dict__.get("silent_since"), **more})

    @property
    def is_finished(self) -> bool:
        """Ended for good."""
        return JobStatus(self.status) in FINISHED

    @property
    def is_active(self) -> bool:
        """A process works on it."""
        return JobStatus(self.status) in ACTIVE


@dataclass(frozen=True)
class Event(Record):
    """A move of a job at a time in seconds since 1970; ``before`` is None where it was put into the queue."""

    job_id: int
    attempt: int
    at: float
    before: str | None
    after: str
    who: str
    why: str


@dataclass(frozen=True)
class Corpus(Record):
    """A corpus and the job that imports it; ``examples`` is None until that has succeeded."""

    id: int
    name: str
    examples: int | None
    rejected: int | None
    format: str | None
    is_sample: bool
    created_at: float
    job: Job | None

    @property
    def is_draft(self) -> bool:
        """Whether its files were taken in and looked at, and nobody has asked for their import yet."""
        return self.examples is None and self.job is not None and self.job.kind in PREVIEWS

    @property
    def is_ready(self) -> bool:
        """Whether it has examples, and is not being read again, after which its positions name other ones."""
        is_read = self.job is not None and self.job.kind == "ingest" and not self.job.is_finished
        return self.examples is not None and not is_read


@dataclass(frozen=True)
class Reading:
    """How the files of a corpus are read, as far as somebody has looked; ``preview`` is None until a look has ended.

    Args:
        given: Which column plays which part, as somebody chose last; None where all was guessed.
        options: As they were chosen last.
        files: Names of the kept files.
        jobs: The newest look, and the one that renders examples where that was asked for.
        source: The job that ``preview`` came from.
    """

    given: dict[str, Any] | None
    options: ImportOptions
    files: list[str]
    jobs: list[Job]
    source: Job | None
    preview: Preview | None

    @classmethod
    def of_jobs(cls, looks: list[Job], current: Job | None) -> Reading:
        """From the looks at a corpus, newest first, and its newest job."""
        asked = looks[0].payload if looks else (current.payload if current else {})
        done = next((job for job in looks if job.status == JobStatus.SUCCEEDED), None)
        newest = [job for job in looks if asks_alike(job.payload, asked)]
        return cls(
            asked.get("roles"),
            ImportOptions(**(asked.get("options") or {})),
            [name.rsplit("/", 1)[-1] for name in asked.get("files", [])],
            newest[:NEWEST_LOOKS],
            done,
            typed(Preview, done.result) if done else None,
        )

    @property
    def roles(self) -> Roles:
        """What was chosen last, as roles."""
        return Roles(**(self.given or {}))

    @property
    def waits_for(self) -> Job | None:
        """The look that has not ended yet, if there is one."""
        return next((job for job in reversed(self.jobs) if not job.is_finished), None)


def asks_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two jobs read the files of a corpus by the same roles and options."""
    return all(one.get(name) == other.get(name) for name in ("roles", "options"))


@dataclass(frozen=True)
class Edit(Record):
    """One change of clusters: ``rename``, ``merge``, ``split`` or ``exclude``, and the job that makes it, if any.

    ``details`` say of which clusters, as they were called then. ``grouping`` names how the clusters stand after it:
    None where it changes none, or until its job has succeeded.
    """

    id: int
    clustering_id: int
    action: str
    details: dict[str, Any]
    grouping: str | None
    visitor: str
    created_at: float
    undone_at: float | None
    job: Job | None

    @property
    def is_pending(self) -> bool:
        """Whether its job has not ended yet."""
        return self.undone_at is None and self.job is not None and self.grouping is None and not self.job.is_finished

    @property
    def has_failed(self) -> bool:
        """Whether its job ended without making it."""
        return self.job is not None and self.job.is_finished and self.grouping is None

    @property
    def is_active(self) -> bool:
        """Whether it was neither taken back nor failed."""
        return self.undone_at is None and not self.has_failed


@dataclass(frozen=True)
class Clustering(Record):
    """A clustering with its edits, and its job; ``result`` is None until that has succeeded.

    Args:
        result: What is told of the clusters as they stand now.
        grouping: Name of how they stand, where somebody has edited them; else empty.
        edits: Every edit, newest first, those that were taken back among them.
        left_out: Numbers of the clusters of which every example is left out.
    """

    id: int
    corpus_id: int
    k: int | None
    seed: int
    result: Clusters | None
    created_at: float
    job: Job | None
    grouping: str
    edits: tuple[Edit, ...]
    left_out: tuple[int, ...]

    @property
    def clusters(self) -> Clusters:
        """What is told of the clusters as they stand; UserError where it is not finished."""
        if self.result is None:
            raise UserError("This clustering is not finished yet. Wait for it.")
        return self.result

    @property
    def to_undo(self) -> Edit | None:
        """The edit that undoing takes back: the newest that stands."""
        return next((edit for edit in self.edits if edit.is_active), None)

    @property
    def to_redo(self) -> Edit | None:
        """The edit that can be made again: the one that was taken back last, where nothing was edited since."""
        undone: list[Edit] = []
        for edit in self.edits:
            if edit.is_active:
                break
            undone += [edit] if edit.undone_at is not None and not edit.has_failed else []
        return undone[-1] if undone else None

    @property
    def is_edited(self) -> bool:
        """Whether somebody has decided which clusters there are."""
        made = (edit for edit in self.edits if edit.is_active and not edit.is_pending)
        return bool(self.left_out) or any(edit.action in ("merge", "split") for edit in made)

    @property
    def chosen_k(self) -> int | None:
        """The number of clusters that somebody asked for; None where it was to be suggested."""
        return self.job.payload.get("k") if self.job else None

    @property
    def experts(self) -> int | None:
        """How many experts to train: the clusters that somebody made and has not left out, else the chosen number of
        clusters, else the suggested one, as far as that goes."""
        if self.result is None:
            return None
        number = self.result.k - len(self.left_out) if self.is_edited else self.chosen_k or self.result.suggested_k
        return min(max(int(number), 1), MOST_EXPERTS)


class Configured:
    """Something with the configuration that a run was started with, read only when it is asked for."""

    stored_config: dict[str, Any]

    @cached_property
    def config(self) -> RunConfig:
        """What it was started with; settings stored under earlier names have today's.

        Raises:
            UserError: When this version cannot read it, as for a method that it does not have.
        """
        return parse_config(self.stored_config)

    @property
    def method(self) -> str:
        """Name of its method, as stored; for lists, which parse no configuration."""
        return str(self.stored_config["method"])

    @property
    def base(self) -> str:
        """Its base model, as stored."""
        return str(self.stored_config["base"])


@dataclass(frozen=True)
class Run(Configured, Record):
    """A run and its newest job; ``summary`` is None until it has finished."""

    id: int
    name: str
    corpus_id: int | None
    clustering_id: int | None
    grouping: str | None
    stored_config: dict[str, Any] = field(repr=False)
    summary: RunSummary | None
    is_sample: bool
    archived_at: float | None
    created_at: float
    job: Job | None

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Copy the row; its JSON becomes a result, and its configuration is read when it is asked for."""
        return super().of(row, stored_config=row.config, summary=typed(RunSummary, row.summary), **more)

    @property
    def is_imported(self) -> bool:
        """Not trained here, but taken in."""
        return self.job is not None and self.job.kind == "import"

    @property
    def can_shrink(self) -> bool:
        """Whether it ended for want of memory, or was killed, and can go on in smaller parts."""
        job = self.job
        if job is None or job.kind != "train" or not (job.error_kind == "memory" or job.status == JobStatus.LOST):
            return False
        return self.config.in_smaller_parts() is not None

    @property
    def status(self) -> str:
        """Status of its newest job."""
        return self.job.status if self.job else JobStatus.QUEUED


@dataclass(frozen=True)
class Step(Record):
    """Numbers of one step, and mean gate weights ``{layer: [N]}`` where they were recorded."""

    step: int
    numbers: dict[str, Any]
    gates: dict[str, Any] | None


@dataclass(frozen=True)
class Analysis(Record):
    """A look into a run: ``routing``, ``weights`` or ``map``."""

    id: int
    run_id: int
    kind: str
    params: dict[str, Any]
    created_at: float
    job: Job | None


@dataclass(frozen=True)
class Conversation(Record):
    """A chat."""

    id: int
    title: str
    system: str
    created_at: float


@dataclass(frozen=True)
class Message(Record):
    """A question (``user``) or an answer (``assistant``) to ``reply_to``.

    ``state`` is ``writing``, ``done``, ``stopped`` or ``failed``; ``tokens`` is
    ``[[text, [[N shares] per layer]], ...]`` or None.
    """

    id: int
    conversation_id: int
    role: str
    text: str
    reply_to: int | None
    run_id: int | None
    settings: dict[str, Any]
    state: str
    error: str | None
    details: dict[str, Any]
    tokens: list[Any] | None
    updated_at: float
