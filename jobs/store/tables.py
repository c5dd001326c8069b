"""The tables. Ids name folders and are never given twice; times are seconds since 1970."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    and_,
    case,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column
from sqlalchemy.types import TypeDecorator

from hydralora.bounds import LARGEST_ID
from hydralora.plain import storable
from jobs.store.clock import LEASE_SECONDS, SILENT_SECONDS, database_now
from jobs.store.status import ACTIVE, NEXT, JobStatus
from jobs.visitor import NOBODY

KEYS = {"sqlite_autoincrement": True}
NAMES = {
    "ix": "ix_%(column_0_label)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


OPEN = "status IN ('queued', 'running', 'stopping')"
BYTES = BigInteger().with_variant(Integer(), "sqlite")  # where an integer has any size


def _one_of(column: str, statuses: Iterable[JobStatus]) -> str:
    return f"{column} IN ({', '.join(repr(str(status)) for status in JobStatus if status in set(statuses))})"


def _is_move() -> str:
    """The moves of ``jobs.store.status.NEXT`` as a condition on a row that says what became of a job."""
    moves = [
        f"(before IS NOT NULL AND before = '{before}' AND {_one_of('after', after)})"
        for before, after in NEXT.items()
        if after
    ]
    return " OR ".join([f"(before IS NULL AND after = '{JobStatus.QUEUED}')", *moves])


class StoredName(TypeDecorator[str]):
    """Text as every database takes it, whoever wrote it: without NUL and halves of a character."""

    impl: Any = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else storable(value)


class StoredText(StoredName):
    """The same for long text."""

    impl = Text
    cache_ok = True


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {str: StoredName, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class JobRow(Base):
    """One unit of background work."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    lane: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    priority: Mapped[int] = mapped_column(default=0)
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    corpus_id: Mapped[int | None]
    run_id: Mapped[int | None]
    visitor: Mapped[str] = mapped_column(default=NOBODY)
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)  # in a row without a step further
    fruitless: Mapped[int] = mapped_column(default=0, server_default="0")  # attempts begun since the last such step
    reached: Mapped[int] = mapped_column(default=0, server_default="0")  # the furthest step of any attempt
    interruptions: Mapped[int] = mapped_column(default=0, server_default="0")  # since the last such step
    held: Mapped[bool] = mapped_column(default=False, server_default=false())  # waits until somebody releases it
    not_before: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str | None]
    host: Mapped[str | None]
    process: Mapped[dict[str, Any] | None]
    token: Mapped[str | None]  # of the lease, which the attempt's own process renews
    lease_until: Mapped[float] = mapped_column(default=0.0)  # on the database's clock
    stop_requested_at: Mapped[float | None]
    metrics_offset: Mapped[int] = mapped_column(BYTES, default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    progress_text: Mapped[str] = mapped_column(StoredText, default="")
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(StoredText)
    error_kind: Mapped[str | None]
    single: Mapped[str | None]  # of jobs with the same name here only one may be open
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    # When it was last heard of, where that is longer ago than its own process takes between two signs of life.
    silent_since: Mapped[float | None] = column_property(
        case(
            (
                and_(
                    status.in_([str(active) for active in ACTIVE]),
                    lease_until < database_now() + LEASE_SECONDS - SILENT_SECONDS,
                ),
                lease_until - LEASE_SECONDS,
            )
        )
    )
    __table_args__ = (
        Index("ix_jobs_claim", "status", "lane", "priority", "id"),
        Index("ix_jobs_turns", "lane", "visitor", "started_at"),
        Index("ix_jobs_run_id", "run_id"),
        Index("ix_jobs_kind", "kind"),
        Index("ux_jobs_single", "single", unique=True, sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        CheckConstraint(_one_of("status", JobStatus), name="status"),
        KEYS,
    )


class DependencyRow(Base):
    """A job that waits until another one has succeeded."""

    __tablename__ = "dependencies"
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    after_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True)


class EventRow(Base):
    """A move of a job from one status to another: when, who, and why."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[float] = mapped_column(default=time.time)
    attempt: Mapped[int]
    before: Mapped[str | None]
    after: Mapped[str]
    who: Mapped[str]
    why: Mapped[str] = mapped_column(StoredText, default="")
    __table_args__ = (CheckConstraint(_is_move(), name="move"), KEYS)


class CorpusRow(Base):
    """All examples of one dataset."""

    __tablename__ = "corpora"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    examples: Mapped[int | None]
    rejected: Mapped[int | None]
    format: Mapped[str | None]
    is_sample: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class ExclusionRow(Base):
    """Examples that a corpus leaves out; ``positions`` as ``jobs.store.positions`` packs them."""

    __tablename__ = "exclusions"
    id: Mapped[int] = mapped_column(primary_key=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpora.id", ondelete="CASCADE"), index=True)
    positions: Mapped[bytes]
    count: Mapped[int]
    reason: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    undone_at: Mapped[float | None]
    __table_args__ = (KEYS,)


class EditRow(Base):
    """A row of a corpus with another prompt and answer; of several that are not undone, the newest counts."""

    __tablename__ = "edits"
    id: Mapped[int] = mapped_column(primary_key=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpora.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    prompt: Mapped[str] = mapped_column(StoredText)
    answer: Mapped[str] = mapped_column(StoredText)
    more: Mapped[str] = mapped_column(StoredText, default="", server_default="")  # see ``hydralora.corpus.edits``
    job_id: Mapped[int | None]  # that made it, together with others; null for one by hand
    created_at: Mapped[float] = mapped_column(default=time.time)
    undone_at: Mapped[float | None]
    __table_args__ = (KEYS,)


class SelectionRow(Base):
    """Examples that were selected and given a name; ``positions`` as ``jobs.store.positions`` packs them."""

    __tablename__ = "selections"
    id: Mapped[int] = mapped_column(primary_key=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpora.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    positions: Mapped[bytes]
    count: Mapped[int]
    words: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class ClusteringRow(Base):
    """One way a corpus was clustered."""

    __tablename__ = "clusterings"
    id: Mapped[int] = mapped_column(primary_key=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpora.id"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    k: Mapped[int | None]
    seed: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class ClusterEditRow(Base):
    """One change of the clusters of a clustering: ``result`` and ``grouping`` are how they stand after it, where it
    changes them."""

    __tablename__ = "cluster_edits"
    id: Mapped[int] = mapped_column(primary_key=True)
    clustering_id: Mapped[int] = mapped_column(ForeignKey("clusterings.id", ondelete="CASCADE"), index=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpora.id", ondelete="CASCADE"))
    action: Mapped[str]
    details: Mapped[dict[str, Any]]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    grouping: Mapped[str | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    visitor: Mapped[str] = mapped_column(default=NOBODY)
    created_at: Mapped[float] = mapped_column(default=time.time)
    undone_at: Mapped[float | None]
    __table_args__ = (KEYS,)


class RunRow(Base):
    """One configuration trained once, or an adapter from elsewhere, with its results."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    corpus_id: Mapped[int | None] = mapped_column(ForeignKey("corpora.id"), index=True)
    clustering_id: Mapped[int | None] = mapped_column(ForeignKey("clusterings.id"))
    grouping: Mapped[str | None]
    config: Mapped[dict[str, Any]]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    summary: Mapped[dict[str, Any] | None]
    is_sample: Mapped[bool] = mapped_column(default=False)
    archived_at: Mapped[float | None]  # out of the list since then; nothing else changes
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class TagRow(Base):
    """A word that somebody has put on a run, to find it again."""

    __tablename__ = "tags"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True, index=True)


class ScoreRow(Base):
    """What a run answered right of the questions of its corpus, so that lists and comparisons read no files.

    ``positions`` name the questions as ``jobs.store.positions`` packs them; ``hits`` has a bit for each.
    """

    __tablename__ = "scores"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), index=True)
    questions: Mapped[int]
    exact: Mapped[int]
    base_exact: Mapped[int]
    positions: Mapped[bytes]
    hits: Mapped[bytes]
    by_label: Mapped[dict[str, Any]]


class StepRow(Base):
    """Numbers of one step of a run; a step written twice is one row. ``more`` holds numbers without a column."""

    __tablename__ = "steps"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    loss: Mapped[float | None]
    eval_loss: Mapped[float | None]
    learning_rate: Mapped[float | None]
    grad_norm: Mapped[float | None]
    tokens_per_second: Mapped[float | None]
    more: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    __table_args__ = (
        Index(
            "ix_steps_held_out",
            "run_id",
            "step",
            "eval_loss",
            sqlite_where=text("eval_loss IS NOT NULL"),
            postgresql_where=text("eval_loss IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )


class GateRow(Base):
    """Mean routing weights of one step (see ``jobs.store.gates``); ``layers`` only where they are not the run's."""

    __tablename__ = "gates"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shares: Mapped[bytes]
    layers: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))


class GateLayersRow(Base):
    """The layers of a run's routing weights, ``[[name, experts], ...]``."""

    __tablename__ = "gate_layers"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    layers: Mapped[list[Any]]


class AnalysisRow(Base):
    """A stored look into a run; the same question is answered once.

    ``question`` names what is asked (see ``jobs.store.analyses.question_of``); it is None for an answer that a newer
    one of the same question has taken the place of.
    """

    __tablename__ = "analyses"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    params: Mapped[dict[str, Any]]
    question: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (Index("ix_analyses_question", "run_id", "question", unique=True), KEYS)


class ConversationRow(Base):
    """A chat."""

    __tablename__ = "conversations"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="New conversation")
    system: Mapped[str] = mapped_column(StoredText, default="")
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class MessageRow(Base):
    """A question, or one answer to it; several answers may reply to one question."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    role: Mapped[str]
    text: Mapped[str] = mapped_column(StoredText, default="")
    reply_to: Mapped[int | None]
    run_id: Mapped[int | None]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(default="done")
    error: Mapped[str | None] = mapped_column(StoredText)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tokens: Mapped[list[Any] | None]
    updated_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class WorkerRow(Base):
    """Workers that have called in, with their last sign of life."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    process: Mapped[dict[str, Any]]
    seen_at: Mapped[float]  # on the database's clock
    version: Mapped[str | None]
    devices: Mapped[list[Any] | None]  # its machine's GPUs: name, total memory in bytes, uuid
    memory: Mapped[int | None] = mapped_column(BigInteger)  # of its machine, in bytes
    address: Mapped[str | None]  # by which other machines reach it


class SettingRow(Base):
    """What the studio remembers about itself (a dismissed tour, a calibration)."""

    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]


class KeyRow(Base):
    """A key of the endpoint; its secret is nowhere, ``digest`` is the SHA-256 of it."""

    __tablename__ = "keys"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True, unique=True)
    digest: Mapped[str] = mapped_column(index=True, unique=True)
    ending: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    used_at: Mapped[float | None]
    __table_args__ = (KEYS,)


class ChangeRow(Base):
    """How often something of a topic has changed (see ``jobs.store.changes``)."""

    __tablename__ = "changes"
    topic: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


Row = TypeVar("Row", bound=Base)


def is_id(value: object) -> bool:
    """Whether a row can have this id; no database is asked for one that cannot."""
    return type(value) is int and 0 < value <= LARGEST_ID


def find_row(session: Session, table: type[Row], row_id: int | None) -> Row | None:
    """The row with this id, or None."""
    return session.get(table, row_id) if is_id(row_id) else None
