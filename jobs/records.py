"""What the store gives out: frozen copies of rows, safe to keep and to pass between threads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from jobs.status import ACTIVE, FINISHED, JobStatus


@dataclass(frozen=True)
class Record:
    """A copy of one row; the fields of the subclass name its columns."""

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """Copy the columns of ``row``; ``more`` gives the fields that are not columns."""
        values = {f.name: getattr(row, f.name) for f in fields(cls) if f.name not in more}
        return cls(**values, **more)


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
    attempt: int
    max_attempts: int
    worker: str | None
    host: str | None
    process: dict[str, Any] | None
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

    @property
    def is_finished(self) -> bool:
        """Ended for good."""
        return JobStatus(self.status) in FINISHED

    @property
    def is_active(self) -> bool:
        """A process works on it."""
        return JobStatus(self.status) in ACTIVE


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


@dataclass(frozen=True)
class Clustering(Record):
    """A clustering and its job; ``result`` is what ``clusters.json`` holds."""

    id: int
    corpus_id: int
    k: int | None
    seed: int
    result: dict[str, Any] | None
    created_at: float
    job: Job | None


@dataclass(frozen=True)
class Run(Record):
    """A run and its newest job."""

    id: int
    name: str
    corpus_id: int | None
    clustering_id: int | None
    config: dict[str, Any]
    summary: dict[str, Any] | None
    is_sample: bool
    created_at: float
    job: Job | None

    @property
    def is_imported(self) -> bool:
        """Not trained here, but taken in."""
        return self.job is not None and self.job.kind == "import"

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
