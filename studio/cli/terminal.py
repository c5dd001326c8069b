"""What the commands share: the store they work on, answers for people and machines, waiting with a bar."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hydralora.bounds import LARGEST_ID
from hydralora.plain import json_text, one_line, plain
from jobs.runner.reconcile import reconcile
from jobs.runner.service import start_worker
from jobs.sending import wait_for_artefacts
from jobs.store.database import open_home
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store

FAILED, WRONG, STOPPED, INTERRUPTED = 1, 2, 3, 130
POLL_SECONDS, WORKER_CHECK_SECONDS = 0.3, 5.0


class Screen(Console):
    """A terminal that obeys nothing in what it shows: names, answers, rows and errors are a stranger's."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print text without control characters, and tables as they are."""
        super().print(*(plain(item) if isinstance(item, str) else item for item in objects), **options)

    def write(self, text: str) -> None:
        """A piece of an answer as it comes, exactly, without control characters."""
        self.file.write(plain(text))
        self.file.flush()


out = Screen(highlight=False, markup=False, soft_wrap=True)
err = Screen(stderr=True, highlight=False, markup=False, soft_wrap=True)
# Ids are bounded here and once more by the store, which says that there is no such thing.
RunId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the run")]
CorpusId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the corpus")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]


class Studio:
    """Where the commands work; set before any of them runs."""

    home: Path | None = None

    @classmethod
    def store(cls) -> Store:
        """The store of the chosen folder."""
        return Store(open_home(cls.home))

    @classmethod
    def true_store(cls) -> Store:
        """The same for a command that tells how jobs stand: where no worker lives, their states are made true first."""
        store = cls.store()
        reconcile(store)
        return store


def show(answer: dict[str, Any] | list[dict[str, Any]], as_json: bool, lines: Callable[[], None]) -> None:
    """Print JSON, or what ``lines`` prints for people."""
    if as_json:
        out.write(json_text(answer) + "\n")
    else:
        lines()


def print_table(head: list[str], rows: list[list[object]]) -> None:
    """A plain table."""
    table = Table(*map(plain, head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(plain(str(cell)) for cell in row))
    out.print(table)


@contextlib.contextmanager
def bar(text: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(one_line(text), total=1.0)
        yield lambda share, words: progress.update(task, completed=share, description=one_line(words or text))


def wait_for(store: Store, job: Job | None, text: str) -> Job:
    """Wait for the end of a job, showing how far it is."""
    assert job is not None
    checked = -math.inf
    with bar(text) as report:
        while not job.is_finished:
            report(job.progress, job.progress_text)
            if time.monotonic() - checked > WORKER_CHECK_SECONDS:  # one that dies meanwhile is replaced
                checked = time.monotonic()
                start_worker(store.home)
            time.sleep(POLL_SECONDS)
            job = store.queue.get(job.id)
    wait_for_artefacts(store, job)
    return job


def finished(store: Store, job: Job | None, text: str) -> Job:
    """Wait for a job that must succeed; ends the command with its sentence when it does not."""
    done = wait_for(store, job, text)
    if done.status != JobStatus.SUCCEEDED:
        err.print(done.error or done.progress_text or done.status)
        wrong_input = done.error_kind == "user"
        raise typer.Exit(STOPPED if done.status == JobStatus.STOPPED else WRONG if wrong_input else FAILED)
    return done
