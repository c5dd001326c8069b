"""What pages share: the address, errors as messages, how often they look, how jobs are shown."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from hydralora.errors import UserError
from jobs.records import Job, Run
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.cards import Markup

LIVE_SECONDS = 2.0
TICK: dict[str, Any] = {"queue": False, "trigger_mode": "once", "show_progress": "hidden", "api_visibility": "private"}
EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def address_id(request: gr.Request | None, name: str) -> int | None:
    """A whole number from the page's address, or None."""
    value = request.query_params.get(name) if request else None
    return int(value) if value and value.isdecimal() and len(value) < 12 else None


def shows_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors a person can mend into a message; bugs are logged with their traceback."""

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except UserError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:
            logging.getLogger("studio").exception("%s failed", handler.__name__)
            raise gr.Error("Something unexpected failed. The studio's log holds the details.") from error

    return wrapped


def eta(job: Job) -> str:
    """How long a running job will still take, from its progress so far."""
    if job.started_at is None or job.progress < 0.02 or job.is_finished:
        return ""
    spent = time.time() - job.started_at
    return f"about {cards.duration(spent * (1 - job.progress) / job.progress)} left"


def job_state(job: Job | None) -> Markup:
    """Status, progress and, where it failed, what happened and what to do."""
    if job is None:
        return Markup("")
    if job.status == JobStatus.QUEUED:
        waits = (
            f" {job.progress_text} It is tried again."
            if job.attempt
            else " It starts when the jobs before it are done."
        )
        return cards.note("info", "Waiting for its turn.", waits)
    if job.is_active:
        return cards.join(
            cards.status(job.status),
            cards.progress(job.progress, ". ".join(filter(None, (job.progress_text, eta(job).capitalize())))),
        )
    if job.status == JobStatus.FAILED:
        return cards.note("bad", "It failed.", job.error or "")
    if job.status == JobStatus.LOST:
        return cards.note("bad", "It was lost.", job.error or "")
    if job.status == JobStatus.STOPPED:
        return cards.note("warn", "It was stopped.", job.progress_text)
    return Markup("")


def run_choices(runs: list[Run]) -> list[tuple[str, int]]:
    """Runs for a dropdown."""
    return [(f"{run.name} (run {run.id}, {cards.STATUS_WORDS[run.status]})", run.id) for run in runs]


def known_bases(store: Store) -> list[str]:
    """The starter and every base used before."""
    return list(dict.fromkeys(["starter", *(run.config["base"] for run in store.runs())]))


def corpus_choices(store: Store) -> list[tuple[str, int]]:
    """Corpora that have been read, for a dropdown."""
    return [(f"{c.name} ({c.examples:,} examples)", c.id) for c in store.corpora() if c.examples is not None]


def moment(seconds: float) -> str:
    """A time of day, with the date when it is not today."""
    then = time.localtime(seconds)
    same_day = time.strftime("%Y%m%d", then) == time.strftime("%Y%m%d")
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", then)


def go_to(path: str, name: str) -> str:
    """JavaScript that opens a page for the id an event has put into a hidden box."""
    return f"(id) => {{ if (id) location.assign('{path}?{name}=' + encodeURIComponent(id)); }}"


def set_address(name: str) -> str:
    """JavaScript that writes a chosen value into the address without loading the page again."""
    return (
        f"(v) => {{ const u = new URL(location); v == null || v === '' ? u.searchParams.delete('{name}') : "
        f"u.searchParams.set('{name}', v); history.replaceState({{}}, '', u); return v; }}"
    )
