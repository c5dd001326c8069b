"""A job that is called running and was not heard of lately: pages say since when, in the words of the commands."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gradio as gr
import pytest
from sqlalchemy.orm import Session

from jobs.store.clock import LEASE_SECONDS, SILENT_SECONDS
from jobs.store.records import Job
from jobs.store.run_list import RunQuery
from jobs.store.store import Store
from jobs.store.tables import JobRow
from studio.cli.queue import queue_view
from studio.cli.runs import run_view, told_of
from studio.pages.corpora.page import CorporaPage
from studio.pages.run.page import RunPage
from studio.pages.runs.views import runs_table
from studio.silence import silence
from studio.tray import tray
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking, drawn_run

AGO = 100.0  # seconds since a silent job was heard of


@pytest.fixture
def store(store: Store) -> Iterator[Store]:
    yield store
    for job in store.queue.jobs(statuses=["running"]):  # no test leaves a silent job to the next
        hear(store, job)


def hear(store: Store, job: Job, ago: float = 0.0) -> str:
    """Let a job have been heard of so many seconds ago, with no word to anybody; gives what is said of it."""
    heard = time.time() - ago
    with Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).lease_until = heard + LEASE_SECONDS
    return silence(heard)


def training(stored: Stored) -> tuple[int, Job]:
    """A run that a worker has begun, with a step."""
    run = stored.run(stored.corpus(), finished=False)
    job = stored.store.attempts.claim("tests", "here", "heavy")
    assert job is not None
    stored.store.runs.add_steps(job, [{"run_id": run.id, "step": 3, "values": {"loss": 2.0}}], 1)
    return run.id, stored.store.queue.get(job.id)


@pytest.mark.parametrize(("ago", "is_told"), [(SILENT_SECONDS - 4, False), (SILENT_SECONDS + 1, True)])
def test_silence_is_told_within_ten_seconds_and_not_between_two_signs_of_life(
    stored: Stored, ago: float, is_told: bool
) -> None:
    run, job = training(stored)
    words = hear(stored.store, job, ago)
    told = stored.store.runs.get(run).job
    assert told is not None and (silence(told.silent_since) == words) == is_told


def test_a_run_says_on_its_page_what_the_command_says(stored: Stored) -> None:
    run, job = training(stored)
    words = hear(stored.store, job, AGO)
    command = run_view(told_of(stored.store, stored.store.runs.get(run)))
    assert command["text"].startswith(f"{words}. Before: ")
    with gr.Blocks() as blocks:
        page = RunPage(blocks, stored.store)
    shown = drawn_run(page, run=run)
    assert f"<h1>{words}.</h1>" in shown[page.head] and "worker start" in shown[page.head]
    assert "left" not in str(shown[page.state]).replace("class='left'", "") and words in shown[page.list]
    hear(stored.store, job)
    again = drawn_run(page, shown[page.stamp], run=run)
    assert "Not heard of" not in again[page.head] + again[page.list]


def test_the_list_of_runs_says_it_too(stored: Stored) -> None:
    run, job = training(stored)
    words = hear(stored.store, job, AGO)
    query = RunQuery()
    lines = {line.id: line for line in stored.store.run_list.page(query).lines}
    assert silence(lines[run].silent_since) == words
    assert words in runs_table(stored.store.run_list.page(query), query)
    (line,) = [one for one in stored.store.runs.all() if one.id == run]
    assert line.job is not None and silence(line.job.silent_since) == words


def test_the_tray_and_the_queue_say_it_and_nobody_knows_how_long_it_takes(stored: Stored) -> None:
    _, job = training(stored)
    words = hear(stored.store, job, AGO)
    (row,) = [one for one in tray(stored.store)["running"] if one["id"] == job.id]
    assert str(row["words"]).startswith(words) and row["left"] is None
    (line,) = [one for one in queue_view(stored.store) if one["job_id"] == job.id]
    assert line["text"].startswith(words)


def test_the_data_page_says_it_of_an_import(stored: Stored) -> None:
    file = stored.home.uploads / "new.csv"
    file.write_text("question,answer\na,b\n")
    corpus = stored.store.corpora.add("New", [file])
    job = stored.store.attempts.claim("tests", "here", "light")
    assert job is not None and job.corpus_id == corpus.id
    words = hear(stored.store, job, AGO)
    with gr.Blocks() as blocks:
        page = CorporaPage(blocks, stored.store)
    shown = page.draw(asking(corpus=corpus.id))
    assert words in shown[page.about] and words in shown[page.table]


def test_open_pages_hear_of_silence_though_nothing_was_written(stored: Stored) -> None:
    run, job = training(stored)
    topics = ("all", "jobs", "runs", f"run-{run}", "run-999999", "chats", "corpora")
    hear(stored.store, job)
    before = stored.store.changes.numbers(topics)
    hear(stored.store, job, AGO)
    after = stored.store.changes.numbers(topics)
    assert {topic for topic in topics if before[topic] != after[topic]} == {"all", "jobs", "runs", f"run-{run}"}
    hear(stored.store, job)
    assert stored.store.changes.numbers(topics) == before
