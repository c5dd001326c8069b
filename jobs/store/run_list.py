"""The list of runs: found, sorted and paged in the database; their tags, and which of them are archived."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from hydralora.bases.folder import shown_base
from hydralora.errors import UserError
from hydralora.results import RunSummary
from jobs.home import Home
from jobs.store.changes import tell
from jobs.store.records import Configured, typed
from jobs.store.rows import Rows, changed, clean_name
from jobs.store.scores import Score, fill_scores
from jobs.store.status import JobStatus
from jobs.store.tables import CorpusRow, JobRow, RunRow, ScoreRow, TagRow, is_id

PAGE = 50  # runs
LONGEST_TAG = 40  # characters
MOST_TAGS = 12  # of one run
CONFIG, SUMMARY = RunRow.config, RunRow.summary
RANK = func.coalesce(CONFIG[("adapter", "r")].as_float(), CONFIG[("adapter", "rank")].as_float())
# What the list can be sorted by; settings that an earlier version called otherwise have their former name second.
SORTS: dict[str, Any] = {
    "created": RunRow.id,
    "name": func.lower(RunRow.name),
    "corpus": func.lower(CorpusRow.name),
    "base": func.lower(CONFIG["base"].as_string()),
    "method": CONFIG["method"].as_string(),
    "seed": CONFIG[("train", "seed")].as_float(),
    "experts": func.coalesce(CONFIG[("adapter", "num_experts")].as_float(), case((RANK.is_not(None), 1))),
    "rank": RANK,
    "exact": ScoreRow.exact * 1.0 / ScoreRow.questions,
    "loss": SUMMARY["held_out_loss"].as_float(),
    "minutes": SUMMARY["seconds"].as_float(),
}
RUN = (
    *(RunRow.id, RunRow.name, RunRow.corpus_id, RunRow.clustering_id, RunRow.config, RunRow.summary),
    *(RunRow.archived_at, RunRow.created_at),
)
JOB = (JobRow.status, JobRow.progress, JobRow.error_kind, JobRow.kind, JobRow.silent_since)
SCORE = tuple(getattr(ScoreRow, name) for name in Score.__dataclass_fields__)


@dataclass(frozen=True)
class RunQuery:
    """Which runs are asked for, and in which order; an empty field asks for nothing in particular.

    Args:
        text: Part of a name, a tag, or the name of a corpus, base or method.
        sort: A key of ``SORTS``.
        page: From 1; one beyond the last is the last.
    """

    text: str = ""
    corpus_id: int | None = None
    base: str = ""
    method: str = ""
    tag: str = ""
    archived: bool = False
    sort: str = "created"
    descending: bool = True
    page: int = 1


@dataclass(frozen=True)
class RunLine(Configured):
    """A run as a list shows it: with the name of its corpus, how its newest job stands, its score and its tags."""

    id: int
    name: str
    corpus_id: int | None
    corpus: str
    clustering_id: int | None
    stored_config: dict[str, Any] = field(repr=False)
    summary: RunSummary | None
    archived_at: float | None
    created_at: float
    status: str
    progress: float
    error_kind: str | None
    silent_since: float | None
    is_imported: bool
    score: Score | None
    tags: tuple[str, ...]

    def setting(self, part: str, *names: str) -> Any:
        """A stored setting of ``adapter`` or ``train`` under the first of several names that it has; None without."""
        stored = self.stored_config.get(part, {})
        return next((stored[name] for name in names if name in stored), None)


@dataclass(frozen=True)
class RunPage:
    """One page of the list.

    Args:
        found: Runs that meet the query.
        whole: Runs that are not archived.
        archived: Runs that are.
        pages: How many pages the found ones fill, at least one.
        page: Which one this is, from 1.
        choices: What can be asked for: ``corpus`` by id, ``base``, ``method`` and ``tag`` by name.
    """

    lines: list[RunLine]
    found: int
    whole: int
    archived: int
    pages: int
    page: int
    choices: dict[str, dict[str, str]] = field(default_factory=dict)


class RunList:
    """Reads the list; tags and archives."""

    def __init__(self, home: Home, rows: Rows) -> None:
        self._home, self._rows = home, rows

    def page(self, query: RunQuery) -> RunPage:
        """The runs that meet a query, ``PAGE`` of them.

        Raises:
            UserError: When it asks for an order that there is not.
        """
        if query.sort not in SORTS:
            raise UserError(f"Runs are not sorted by '{query.sort}'. Choose one of: {', '.join(SORTS)}.")
        where = _conditions(query)
        with self._rows.reading() as session:
            found, whole, archived = _counts(session, where)
            pages = max(1, -(-found // PAGE))
            page = min(max(query.page, 1), pages)
            order = SORTS[query.sort]
            ordered = (order.desc() if query.descending else order.asc()).nulls_last()
            chosen = _lines_query().where(*where).order_by(ordered, RunRow.id.desc())
            lines = _read(session, chosen.limit(PAGE).offset(PAGE * (page - 1)))
            return RunPage(lines, found, whole, archived, pages, page, _choices(session, query))

    def lines(self, run_ids: Iterable[int]) -> list[RunLine]:
        """Runs with these ids, in that order; those that do not exist are missing."""
        wanted = list(dict.fromkeys(filter(is_id, run_ids)))
        with self._rows.reading() as session:
            known = {line.id: line for line in _read(session, _lines_query().where(RunRow.id.in_(wanted)))}
        return [known[run_id] for run_id in wanted if run_id in known]

    def tag(self, run_ids: Sequence[int], *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> int:
        """Put tags on runs and take others off; how many of the runs exist.

        Raises:
            UserError: When a tag is empty or too long, or a run would have more than ``MOST_TAGS``.
        """
        added, removed = [_clean_tag(name) for name in add], [_clean_tag(name) for name in remove]
        with self._rows.writing() as session:
            known = _existing(session, run_ids)
            session.execute(delete(TagRow).where(TagRow.run_id.in_(known), TagRow.name.in_(removed)))
            tags = _tags(session, known)
            for run_id in known:
                fresh = [name for name in dict.fromkeys(added) if name not in tags[run_id]]
                if len(tags[run_id]) + len(fresh) > MOST_TAGS:
                    raise UserError(f"Run {run_id} would have more than {MOST_TAGS} tags. Take one off first.")
                session.add_all([TagRow(run_id=run_id, name=name) for name in fresh])
            _tell(session, known)
        return len(known)

    def archive(self, run_ids: Sequence[int], *, back: bool = False) -> int:
        """Take runs out of the list, or put them ``back``; how many this changed. Nothing of them is deleted."""
        with self._rows.writing() as session:
            known = _existing(session, run_ids)
            is_there = RunRow.archived_at.is_not(None) if back else RunRow.archived_at.is_(None)
            statement = update(RunRow).where(RunRow.id.in_(known), is_there)
            count = changed(session, statement.values(archived_at=None if back else time.time()))
            _tell(session, known)
        return count

    def fill_scores(self) -> int:
        """Keep the scores of answers that an earlier version measured; how many these were."""
        return fill_scores(self._home, self._rows)


def _clean_tag(name: str) -> str:
    tag = clean_name(name)
    if len(tag) > LONGEST_TAG or "," in tag:
        raise UserError(f"A tag has at most {LONGEST_TAG} characters and no comma, got {len(tag)}: '{tag}'.")
    return tag


def _existing(session: Session, run_ids: Sequence[int]) -> list[int]:
    return list(session.scalars(select(RunRow.id).where(RunRow.id.in_(list(filter(is_id, run_ids))))))


def _tell(session: Session, run_ids: Sequence[int]) -> None:
    """The statements go past the rows, so that their topics are told here."""
    if run_ids:
        tell(session, "all", "runs", *(f"run-{run_id}" for run_id in run_ids))


def _is_seen(query: RunQuery) -> ColumnElement[bool]:
    """Whether a run stands in the list, or among the archived ones."""
    return RunRow.archived_at.is_not(None) if query.archived else RunRow.archived_at.is_(None)


def _conditions(query: RunQuery) -> list[ColumnElement[bool]]:
    where = [_is_seen(query)]
    if query.corpus_id is not None:
        where.append(RunRow.corpus_id == query.corpus_id)
    if query.base:
        stored = CONFIG["base"].as_string()  # of a folder only the last part is named: paths are nobody's business
        where.append(or_(stored == query.base, stored.endswith(f"/{query.base}", autoescape=True)))
    if query.method:
        where.append(CONFIG["method"].as_string() == query.method)
    if query.tag:
        where.append(_tagged(TagRow.name == query.tag))
    if query.text:
        for word in query.text.split():
            named = (RunRow.name, CorpusRow.name, CONFIG["method"].as_string())
            written = [column.icontains(word, autoescape=True) for column in named]
            stored = CONFIG["base"].as_string()
            written.append(and_(~stored.startswith("/"), stored.icontains(word, autoescape=True)))
            written.append(stored.iendswith(f"/{word}", autoescape=True))
            where.append(or_(*written, _tagged(TagRow.name.icontains(word, autoescape=True))))
    return where


def _tagged(holds: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(and_(TagRow.run_id == RunRow.id, holds))


def _counts(session: Session, where: list[ColumnElement[bool]]) -> tuple[int, int, int]:
    """Runs that meet the conditions, that are not archived, and that are."""
    found = select(func.count(RunRow.id)).outerjoin(CorpusRow, CorpusRow.id == RunRow.corpus_id).where(*where)
    count = select(func.count(RunRow.id))
    query = select(
        found.scalar_subquery(),
        count.where(RunRow.archived_at.is_(None)).scalar_subquery(),
        count.where(RunRow.archived_at.is_not(None)).scalar_subquery(),
    )
    counted, whole, archived = session.execute(query).one()
    return counted, whole, archived


def _lines_query() -> Select[Any]:
    query = select(*RUN, *JOB, CorpusRow.name, *SCORE).select_from(RunRow)
    query = query.outerjoin(CorpusRow, CorpusRow.id == RunRow.corpus_id).outerjoin(JobRow, JobRow.id == RunRow.job_id)
    return query.outerjoin(ScoreRow, ScoreRow.run_id == RunRow.id)


def _read(session: Session, query: Select[Any]) -> list[RunLine]:
    """Lines of a query, in two statements however many there are."""
    rows = session.connection().execute(query).all()  # plain values: no row is kept
    tags = _tags(session, [row[0] for row in rows])
    return [_line(row, tags) for row in rows]


def _line(row: Any, tags: dict[int, list[str]]) -> RunLine:
    run, job, corpus = row[: len(RUN)], row[len(RUN) : len(RUN) + len(JOB)], row[len(RUN) + len(JOB)]
    run_id, name, corpus_id, clustering_id, config, summary, archived_at, created_at = run
    status, progress, error_kind, kind, silent_since = job
    score = row[len(RUN) + len(JOB) + 1 :]
    return RunLine(
        id=run_id,
        name=name,
        corpus_id=corpus_id,
        corpus=corpus or "",
        clustering_id=clustering_id,
        stored_config=config,
        summary=typed(RunSummary, summary),
        archived_at=archived_at,
        created_at=created_at,
        status=status or JobStatus.QUEUED,
        progress=progress or 0.0,
        error_kind=error_kind,
        silent_since=silent_since,
        is_imported=kind == "import",
        score=None if score[0] is None else Score(*score),
        tags=tuple(tags[run_id]),
    )


def _tags(session: Session, run_ids: Sequence[int]) -> dict[int, list[str]]:
    found = defaultdict[int, list[str]](list)
    query = select(TagRow.run_id, TagRow.name).where(TagRow.run_id.in_(run_ids)).order_by(TagRow.name)
    for run_id, name in session.execute(query):
        found[run_id].append(name)
    return found


def _choices(session: Session, query: RunQuery) -> dict[str, dict[str, str]]:
    """What the runs of the list (or the archived ones) have that can be asked for, in one statement."""
    text = {"base": CONFIG["base"].as_string(), "method": CONFIG["method"].as_string()}
    is_seen = _is_seen(query)
    parts: list[Any] = [select(literal(name), value, value).where(is_seen).distinct() for name, value in text.items()]
    tags = select(literal("tag"), TagRow.name, TagRow.name).distinct()
    parts.append(tags.where(TagRow.run_id.in_(select(RunRow.id).where(is_seen))))
    named = select(literal("corpus"), cast(CorpusRow.id, String), CorpusRow.name)
    parts.append(named.where(CorpusRow.id.in_(select(RunRow.corpus_id).where(is_seen))))
    found: dict[str, dict[str, str]] = {"corpus": {}, "base": {}, "method": {}, "tag": {}}
    for kind, key, name in session.execute(union_all(*parts)):
        plain = shown_base if kind == "base" else str
        found[kind][plain(str(key))] = plain(name)
    return found
