"""The tables. Ids name folders and are never given twice; times are seconds since 1970."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

KEYS = {"sqlite_autoincrement": True}
NAMES = {
    "ix": "ix_%(column_0_label)s", "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s",
}  # fmt: skip


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Jobs(Base):
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
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    not_before: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str | None]
    host: Mapped[str | None]
    process: Mapped[dict[str, Any] | None]
    lease_until: Mapped[float] = mapped_column(default=0.0)
    stop_requested_at: Mapped[float | None]
    metrics_offset: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    progress_text: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(Text)
    error_kind: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    __table_args__ = (Index("ix_jobs_claim", "status", "lane", "priority", "id"), KEYS)


class Corpora(Base):
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


class Clusterings(Base):
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


class Runs(Base):
    """One configuration trained once, or an adapter from elsewhere, with its results."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    corpus_id: Mapped[int | None] = mapped_column(ForeignKey("corpora.id"), index=True)
    clustering_id: Mapped[int | None] = mapped_column(ForeignKey("clusterings.id"))
    config: Mapped[dict[str, Any]]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    summary: Mapped[dict[str, Any] | None]
    is_sample: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class Metrics(Base):
    """Numbers of one step of a run; a step written twice is one row."""

    __tablename__ = "metrics"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    numbers: Mapped[dict[str, Any]]
    gates: Mapped[dict[str, Any] | None]


class Analyses(Base):
    """A stored look into a run; the same question is answered once."""

    __tablename__ = "analyses"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    params: Mapped[dict[str, Any]]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class Conversations(Base):
    """A chat."""

    __tablename__ = "conversations"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="New conversation")
    system: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class Messages(Base):
    """A question, or one answer to it; several answers may reply to one question."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    role: Mapped[str]
    text: Mapped[str] = mapped_column(Text, default="")
    reply_to: Mapped[int | None]
    run_id: Mapped[int | None]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(default="done")
    error: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tokens: Mapped[list[Any] | None]
    updated_at: Mapped[float] = mapped_column(default=time.time)
    __table_args__ = (KEYS,)


class Workers(Base):
    """Workers that have called in, with their last sign of life."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    process: Mapped[dict[str, Any]]
    seen_at: Mapped[float]


class Settings(Base):
    """What the studio remembers about itself (a dismissed tour, a calibration)."""

    __tablename__ = "settings"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
