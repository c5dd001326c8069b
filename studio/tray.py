"""The tray of jobs: what each job is for, its place among those that wait, how far it is and how long it still takes.

It is told as JSON to ``static/tray.js`` on every page, and drawn on the first page.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.plain import without_paths
from jobs.endings import is_told, name_of_run, sentence
from jobs.kinds import KINDS, title_of
from jobs.store.records import Event, Job
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from studio.silence import words_of

MOST_SHOWN = 40  # jobs that wait, and as many that run
MOST_FAILED = 8
MOST_ENDED = 20  # told at once, the last ones of those that are read
MOST_READ = 1_000
FAILED_SECONDS = 24 * 3600  # for which a failed job is shown
LEAST_PROGRESS = 0.02  # from which a job's own pace says how long it will take


@dataclass(frozen=True)
class TrayJob:
    """One job as the tray shows it.

    Args:
        title: What it does, to what.
        about: What it is for.
        place: 1 for the one that begins next of those that wait in its lane; 0 where it does not wait.
        left: Seconds that it still takes, by its pace so far, or by what was estimated; None where nobody knows.
        starts: Seconds until it begins, where those before it are known.
        held: Whether it waits until somebody releases it.
        href: The page that shows it.
    """

    id: int
    title: str
    about: str
    status: str
    ends: bool
    place: int
    progress: float
    words: str
    left: float | None
    starts: float | None
    held: bool
    href: str
    error: str
    at: float


@dataclass(frozen=True)
class Notice:
    """A job that has ended: what is said of it, the page that shows it, when it was, and how long it had worked."""

    id: int
    words: str
    status: str
    href: str
    at: float
    seconds: float


def seconds_left(job: Job) -> float | None:
    """How long a job will still take: a running one by its own pace, one that waits as was estimated; nobody knows it
    of one that was not heard of lately."""
    estimated = job.payload.get("estimated_seconds")
    if job.status == JobStatus.QUEUED:
        return float(estimated) if isinstance(estimated, (int, float)) else None
    if job.silent_since is not None:
        return None
    if job.started_at is None or job.is_finished or job.progress < LEAST_PROGRESS:
        return float(estimated) if isinstance(estimated, (int, float)) and not job.is_finished else None
    return (time.time() - job.started_at) * (1 - job.progress) / job.progress


def waiting_jobs(store: Store) -> list[Job]:
    """Jobs that wait, lane by lane, in the order in which they begin."""
    lanes = {job.lane for job in store.queue.jobs(statuses=[JobStatus.QUEUED], limit=1_000)}
    return [job for lane in sorted(lanes) for job in store.order.waiting(lane)]


def place_of(store: Store, job: Job) -> int:
    """1 for the job that begins next of its lane; 0 where it does not wait."""
    ids = [other.id for other in waiting_jobs(store) if other.lane == job.lane]
    return ids.index(job.id) + 1 if job.id in ids else 0


def running_jobs(store: Store) -> list[TrayJob]:
    """Jobs at work, the oldest first."""
    return [_row(store, job) for job in store.queue.jobs(statuses=ACTIVE, limit=MOST_SHOWN)[::-1]]


def tray(store: Store) -> dict[str, list[dict[str, object]]]:
    """Jobs that run, that wait and that have failed lately, each list in the order in which it is shown."""
    running = store.queue.jobs(statuses=ACTIVE, limit=MOST_SHOWN)[::-1]
    failed = store.queue.jobs(statuses=[JobStatus.FAILED, JobStatus.LOST], limit=MOST_FAILED)
    since = time.time() - FAILED_SECONDS
    rows = {
        "running": [_row(store, job) for job in running],
        "waiting": _waiting(store, running),
        "failed": [_row(store, job) for job in failed if (job.finished_at or 0) > since],
    }
    return {name: [asdict(row) for row in found] for name, found in rows.items()}


def ended(store: Store, told: int | None) -> dict[str, object]:
    """What has ended since a page was told last, for its notices: ``newest`` is the number to ask after the next time.

    Args:
        told: That number; None where the page was never told, which is told nothing of earlier times.
    """
    newest = store.queue.newest_event()  # read first: nothing that ends meanwhile is missed
    found = store.queue.ended_after(min(told, newest), MOST_READ) if told is not None else []
    newest = found[-1][0] if len(found) == MOST_READ else newest
    told_of = [(event, job) for _, event, job in found if is_told(job)][-MOST_ENDED:]
    notices = [_notice(store, event, job) for event, job in told_of]
    return {"newest": newest, "ended": [asdict(notice) for notice in notices]}


def _notice(store: Store, event: Event, job: Job) -> Notice:
    seconds = event.at - (job.started_at or event.at)
    words = sentence(event, job, name_of_run(store, job))
    return Notice(job.id, words, event.after, _subject(store, job)[2], event.at, seconds)


def _waiting(store: Store, running: list[Job]) -> list[TrayJob]:
    """Those that wait, each with its place, and when it begins as far as all before it in its lane are known."""
    busy: dict[str, float | None] = {}
    for job in running:
        busy[job.lane] = _sum(busy.get(job.lane, 0.0), seconds_left(job))
    places: dict[str, int] = {}
    rows = []
    for job in waiting_jobs(store)[:MOST_SHOWN]:
        places[job.lane] = places.get(job.lane, 0) + 1
        starts = busy.get(job.lane, 0.0)
        rows.append(_row(store, job, place=places[job.lane], starts=starts))
        busy[job.lane] = starts if job.held else _sum(starts, seconds_left(job))
    return rows


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _row(store: Store, job: Job, *, place: int = 0, starts: float | None = None) -> TrayJob:
    name, about, href = _subject(store, job)
    ends = job.kind not in KINDS or KINDS[job.kind].ends
    return TrayJob(
        id=job.id,
        title=f"{title_of(job.kind)}: {name}" if name else title_of(job.kind),
        about=about,
        status=job.status,
        ends=ends,
        place=place,
        progress=job.progress,
        words=without_paths(words_of(job)),
        left=seconds_left(job) if ends else None,
        starts=None if job.held else starts,
        held=job.held,
        href=href,
        error=without_paths(job.error or ""),
        at=job.finished_at or job.started_at or job.created_at,
    )


def _subject(store: Store, job: Job) -> tuple[str, str, str]:
    """Name and purpose of what a job works on, and its page; all empty where that is gone, or there is none."""
    try:
        if job.run_id is not None:
            run = store.runs.get(job.run_id)
            where = store.corpora.get(run.corpus_id).name if run.corpus_id is not None else ""
            method = METHODS[run.method].title if run.method in METHODS else run.method
            about = f"{method} on {where}" if where else method
            return run.name, about, f"/run?run={run.id}"
        if job.corpus_id is not None:
            corpus = store.corpora.get(job.corpus_id)
            return corpus.name, "", f"/corpora?corpus={corpus.id}"
    except UserError:  # deleted meanwhile
        return "", "", ""
    name = job.payload.get("name")
    return (name, "", "/bases") if job.kind in ("base", "base_check") and isinstance(name, str) else ("", "", "")
