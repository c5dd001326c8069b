"""What pages share: the address, errors as messages, how often they look, how jobs are shown."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from html import escape
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from hydralora.bases.folder import is_hub_id
from hydralora.bounds import LARGEST_ID, Message, checked
from hydralora.errors import UserError
from hydralora.plain import plain, shown, without_paths
from jobs.store.bases import is_hub_allowed
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.visitor import current_visitor, on_behalf_of
from studio import cards
from studio.cards import Markup
from studio.silence import words_of
from studio.tray import seconds_left
from studio.widgets import module

Found = TypeVar("Found")
FIELDS = f"(await {module('fields')}).fields"  # JavaScript: what a person has touched on this page
UNEXPECTED = "Something unexpected failed. The studio's log holds the details."
# What happens while a handler is at work is not lost: it is called once more at its end, with the newest. An event that
# is given to this has no second handler beside it, as Gradio calls all of them again then, and they would never end:
# what comes next follows by ``then``.
TICK: dict[str, Any] = {
    "queue": False,
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}
# Not twice at once: what is asked for by the data of an event, which a later call would not have, and what several
# handlers of one event do.
ACT: dict[str, Any] = {**TICK, "trigger_mode": "once"}
EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def address_id(request: gr.Request | None, name: str) -> int | None:
    """A whole number from the page's address, or None."""
    value = request.query_params.get(name) if request else None
    whole = value and value.isdecimal() and len(value) <= len(str(LARGEST_ID))
    return chosen_id(int(value)) if value and whole else None


def asked_for(
    request: gr.Request | None, name: str, word: str, find: Callable[[int], Found]
) -> tuple[Found | None, str]:
    """What the page's address asks for by an id; where there is no such thing, the sentence that says so.

    Args:
        name: The name in the address, such as ``run``.
        word: What it names, such as ``Run``.
        find: Gives the thing of an id, or raises UserError with the sentence.
    """
    value = request.query_params.get(name) if request else None
    if not value:
        return None, ""
    number = address_id(request, name)
    if number is None:
        return None, f"{word} {shown(value)} does not exist: an id is a whole number."
    try:
        return find(number), ""
    except UserError as error:
        return None, without_paths(str(error))


def nothing_there(problem: str, way_on: object) -> Markup:
    """The empty state of an address that asks for nothing that exists; empty where there is no problem."""
    return cards.empty(problem, way_on) if problem else Markup("")


def chosen_id(value: Any) -> int | None:
    """The id that an input holds, or None where a browser sent something else."""
    return value if type(value) is int and 0 <= value <= LARGEST_ID else None


def chosen_text(value: Any) -> str:
    """The text or choice that an input holds; empty where there is none, or a browser sent something else."""
    return checked(Message, value, "text") if isinstance(value, str) else ""


def asking_session() -> str:
    """The session of the visitor whose event is handled.

    Gradio runs an event in a task of its own, with the request it came from.
    """
    request = LocalContext.request.get(None)
    state = request.request.scope.get("state", {}) if isinstance(request, gr.Request) and request.request else {}
    visitor = state.get("visitor")
    return visitor.session if visitor is not None else current_visitor()


def shows_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors a person can mend into a message; bugs are logged with their traceback."""
    if getattr(handler, "shows_errors", False):
        return handler

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with on_behalf_of(asking_session()):
                changes = handler(*args, **kwargs)
            return gr.skip() if changes == {} else changes
        except UserError as error:
            raise gr.Error(escape(without_paths(plain(str(error)))), print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:
            logging.getLogger("studio").exception("%s failed", handler.__name__)
            raise gr.Error(UNEXPECTED, print_exception=False) from error

    wrapped.shows_errors = True  # type: ignore[attr-defined]
    return wrapped


class Pages(gr.Blocks):
    """All pages. What a browser sends is checked by the inputs first; one sentence says that it does not fit."""

    async def preprocess_data(self, *given: Any, **more: Any) -> Any:
        """The inputs' values as the handlers take them."""
        try:
            return await super().preprocess_data(*given, **more)
        except Exception as error:
            raise gr.Error(_unfit(error), print_exception=False) from error

    def protect(self) -> None:
        """Let every event, also those of clocks and of opened pages, tell its errors as ``shows_errors`` does."""
        for event in self.fns.values():
            if event.fn is not None:
                event.fn = shows_errors(event.fn)


def _unfit(error: Exception) -> str:
    """Which bound of an input was crossed; anything else could quote choices, and they may name folders."""
    said = error.message if isinstance(error, gr.Error) else ""
    is_bound = said.startswith("Value ") and "choices" not in said
    return (
        escape(plain(said))
        if is_bound
        else "A field holds a value that it cannot have. Reload the page and choose again."
    )


def eta(job: Job) -> str:
    """How long a running job will still take, from its progress so far."""
    left = seconds_left(job) if job.is_active else None
    return "" if left is None else f"about {cards.about_span(left)} left"


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
            cards.progress(job.progress, ". ".join(filter(None, (words_of(job), eta(job).capitalize())))),
        )
    if job.status == JobStatus.FAILED:
        return cards.note("bad", "It failed.", without_paths(job.error or ""))
    if job.status == JobStatus.LOST:
        return cards.note("bad", "It was lost.", without_paths(job.error or ""))
    if job.status == JobStatus.STOPPED:
        return cards.note("warn", "It was stopped.", job.progress_text)
    return Markup("")


def known_bases(store: Store) -> list[str]:
    """The starter, the names on the list of bases, and, where they are allowed, hub ids of runs in the list."""
    used = (run.base for run in store.runs.listed() if not (run.summary and run.summary.base_problem))
    hub = [base for base in used if is_hub_id(base)] if is_hub_allowed() else []
    return list(dict.fromkeys(["starter", *(base.name for base in store.bases.all()), *hub]))


def corpus_choices(store: Store) -> list[tuple[str, int]]:
    """Corpora that have been read, for a dropdown."""
    return [(f"{c.name} ({c.examples:,} examples)", c.id) for c in store.corpora.all() if c.is_ready]


def go_to(path: str, name: str) -> str:
    """JavaScript that opens a page for the id an event has put into a hidden box."""
    return f"(id) => {{ if (id) location.assign('{path}?{name}=' + encodeURIComponent(id)); }}"


def fill_untouched(components: list[Any]) -> str:
    """JavaScript that puts values, JSON by element id, into those components that nobody has touched yet."""
    return f"async (values) => ({FIELDS}).untouched({_ids(components)}, values)"


def forget_touched(components: list[Any]) -> str:
    """JavaScript for an event that is meant to overwrite what was typed into these components."""
    return f"async (...inputs) => {{ ({FIELDS}).forget({_ids(components)}); return inputs; }}"


def _ids(components: list[Any]) -> str:
    return json.dumps([component.elem_id for component in components])


def set_address(name: str) -> str:
    """JavaScript that writes a chosen value into the address without loading the page again."""
    return (
        f"(v) => {{ const u = new URL(location); v == null || v === '' ? u.searchParams.delete('{name}') : "
        f"u.searchParams.set('{name}', v); history.replaceState({{}}, '', u); return v; }}"
    )
