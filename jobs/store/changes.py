"""What changed: a number for each topic, raised in the transaction of every write that somebody may be looking at.

Topics are ``corpora``, ``runs``, ``jobs``, ``chats``, ``speeds`` and ``settings``; ``corpus-7``, ``run-7`` and
``chat-7`` for all that belongs to one; ``workers``; and ``all``, which is everything but the steps of runs and the
messages of chats. A lease that is renewed without news and a worker's sign of life change none of them.

Numbers are raised at the end of a transaction and in one order, so that two writers never wait for each other in a
circle, and whoever reads a number and then the rows can have missed nothing: the rows are at least as new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Integer, event, func, inspect, literal, null, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.store.clock import lately
from jobs.store.status import ACTIVE
from jobs.store.tables import (
    AnalysisRow,
    ChangeRow,
    ClusterEditRow,
    ClusteringRow,
    ConversationRow,
    CorpusRow,
    EditRow,
    ExclusionRow,
    JobRow,
    KeyRow,
    MessageRow,
    RunRow,
    ScoreRow,
    SelectionRow,
    SettingRow,
    TagRow,
    WorkerRow,
)

LISTS = ("all", "corpora", "runs", "jobs", "chats", "speeds", "settings", "workers")
TOPIC = re.compile(r"(corpus|run|chat)-([1-9][0-9]{0,18})")
NUMBER, ALIVE, SILENCE = "number", "workers alive", "silent"  # what a row says that is read of topics
MOST_TOPICS = 8  # of one question
# Columns of a job that nobody looks at
SILENT = frozenset(
    {"lease_until", "token", "process", "worker", "host", "metrics_offset", "reached", "fruitless", "interruptions"}
)
SPEED = "speed of "  # begins the key of a measured speed among the settings
WORKER_GONE_SECONDS = 15.0  # without a sign of life


def as_text(topics: Iterable[str]) -> str:
    """Topics as an address takes them; ``checked_topics`` reads them again."""
    return ",".join(topics)


def checked_topics(text: str) -> tuple[str, ...]:
    """Topics separated by commas.

    Raises:
        UserError: When one is none, or there are too many.
    """
    topics = tuple(text.split(","))
    if len(topics) > MOST_TOPICS:
        raise UserError(f"{len(topics)} topics are asked for; {MOST_TOPICS} are the most.")
    for topic in topics:
        one = TOPIC.fullmatch(topic)
        if topic not in LISTS and (one is None or int(one[2]) > LARGEST_ID):
            raise UserError(
                f"There is no topic called {shown(topic)}. Choose from {', '.join(LISTS)}, and corpus-, run- or "
                "chat- with an id."
            )
    return topics


def topics_of(row: Any) -> tuple[str, ...]:
    """The topics that a row belongs to."""
    match row:
        case JobRow():
            return topics_of_job(row.kind, row.run_id, row.corpus_id)
        case RunRow():
            return "all", "runs", f"run-{row.id}"
        case CorpusRow():
            return "all", "corpora", f"corpus-{row.id}"
        case ClusteringRow() | ClusterEditRow() | EditRow() | ExclusionRow() | SelectionRow():
            return "all", "corpora", f"corpus-{row.corpus_id}"
        case TagRow() | ScoreRow():
            return "all", "runs", f"run-{row.run_id}"
        case AnalysisRow():
            return "all", f"run-{row.run_id}"
        case ConversationRow():
            return "chats", f"chat-{row.id}"
        case MessageRow():
            return (f"chat-{row.conversation_id}",)
        case SettingRow():
            return ("all", "settings", "speeds") if row.key.startswith(SPEED) else ("all", "settings")
        case KeyRow():
            return "all", "settings"
    return ()


def topics_of_job(kind: str, run_id: int | None, corpus_id: int | None) -> tuple[str, ...]:
    """Those of a job: its run's, else its corpus', and those of all jobs."""
    if kind == "speed":
        return "all", "jobs", "speeds"
    if run_id is not None:
        return "all", "jobs", "runs", f"run-{run_id}"
    return ("all", "jobs") if corpus_id is None else ("all", "jobs", "corpora", f"corpus-{corpus_id}")


class WritingSession(Session):
    """A session that knows the topics of what it writes; those of statements that go past its rows are told to it."""

    def __init__(self, bind: Any) -> None:
        super().__init__(bind)
        self.topics: set[str] = set()

    def raise_numbers(self) -> None:
        """Write everything, and raise the numbers of its topics; nothing may be written after this."""
        self.flush()
        if not self.topics:
            return
        insert = postgresql.insert if self.get_bind().dialect.name == "postgresql" else sqlite.insert
        statement = insert(ChangeRow)
        statement = statement.on_conflict_do_update(
            index_elements=["topic"], set_={"number": ChangeRow.number + statement.excluded.number}
        )
        self.connection().execute(statement, [{"topic": topic, "number": 1} for topic in sorted(self.topics)])


@event.listens_for(WritingSession, "before_flush")
def _note_deleted(session: WritingSession, *_: Any) -> None:
    for row in session.deleted:
        session.topics.update(topics_of(row))


@event.listens_for(WritingSession, "after_flush")
def _note_written(session: WritingSession, *_: Any) -> None:
    """New rows have their ids now, and changed ones still their history."""
    for row in (*session.new, *session.dirty):
        changes = {attribute.key for attribute in inspect(row).attrs if attribute.history.has_changes()}
        if changes - (SILENT if isinstance(row, JobRow) else set()):
            session.topics.update(topics_of(row))


def tell(session: Session, *topics: str) -> None:
    """Say that a statement of this session has changed something of these topics."""
    if isinstance(session, WritingSession):
        session.topics.update(topics)


class Changes:
    """Reads what has changed."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def numbers(self, topics: Iterable[str]) -> dict[str, str]:
        """The numbers of some topics, as text: two that are equal mean that nothing has changed in between.

        They tell as well which jobs of a topic have not been heard of lately, and those of ``all`` and ``workers`` how
        many workers are alive: neither of these is told by a write.
        """
        wanted = set(topics)
        with self._rows.reading() as session:
            rows = session.execute(_numbers(wanted)).all()
        known = {topic: number for kind, topic, number, *_ in rows if kind == NUMBER}
        workers = next((number for kind, _, number, *_ in rows if kind == ALIVE), 0)
        found = {topic: str(known.get(topic, 0)) for topic in wanted}
        for kind, of, number, run_id, corpus_id in sorted(rows, key=lambda row: row[2]):
            for topic in topics_of_job(of, run_id, corpus_id) if kind == SILENCE else ():
                if topic in found:
                    found[topic] += f"s{number}"
        return {
            topic: f"{number}w{workers}" if topic in ("all", "workers") else number for topic, number in found.items()
        }

    def stamp(self, topics: Iterable[str]) -> str:
        """The numbers of some topics as one text, in the order that is asked for."""
        topics = tuple(topics)
        numbers = self.numbers(topics)
        return stamp_of(numbers[topic] for topic in topics)


def _numbers(wanted: set[str]) -> Any:
    """What is read of some topics: ``(NUMBER, topic, number)``, ``(ALIVE, "", workers)`` and
    ``(SILENCE, kind, job, run, corpus)``."""
    none = null().cast(Integer)
    parts = [
        select(literal(NUMBER), ChangeRow.topic, ChangeRow.number, none, none).where(ChangeRow.topic.in_(wanted)),
        select(literal(SILENCE), JobRow.kind, JobRow.id, JobRow.run_id, JobRow.corpus_id).where(
            JobRow.status.in_(ACTIVE), JobRow.silent_since.is_not(None)
        ),
    ]
    if wanted & {"all", "workers"}:
        count = select(literal(ALIVE), literal(""), func.count(), none, none)
        parts.append(count.where(lately(WorkerRow.seen_at, WORKER_GONE_SECONDS)))
    return union_all(*parts)


def stamp_of(numbers: Iterable[str]) -> str:
    """Numbers of topics as one text."""
    return "-".join(numbers)
