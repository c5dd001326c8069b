"""How often the database is asked, whatever the number of rows; and what it refuses by itself."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import gradio as gr
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.home import Home
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import AnalysisRow, CorpusRow, JobRow, RunRow
from jobs.store.totals import Totals
from studio.pages.home.page import HomePage
from tests.jobs.conftest import counting
from tests.jobs.test_old_home import unpack
from tests.postgresql import on_sqlite

pytestmark = pytest.mark.databases

ROWS = 50


@pytest.fixture
def full(home: Home) -> Store:
    """A store with fifty corpora, runs and jobs."""
    store = Store(home)
    with Session(store.engine) as session, session.begin():
        for number in range(ROWS):
            job = JobRow(kind="train", lane="heavy", status="succeeded")
            corpus = CorpusRow(name=f"corpus {number}", is_sample=False)
            session.add_all([job, corpus])
            session.flush()
            corpus.job_id = job.id
            config = {"method": "lora", "base": "starter"}
            run = {"corpus_id": corpus.id, "config": config, "job_id": job.id, "summary": {"steps": 1}}
            session.add(RunRow(name=f"run {number}", **run))
    return store


@pytest.mark.parametrize("what", ["runs", "corpora"])
def test_a_list_takes_few_statements_however_long_it_is(full: Store, what: str) -> None:
    with counting(full) as said:
        rows = getattr(full, what).all()
    assert len(rows) == ROWS and all(row.job is not None for row in rows)
    assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
    assert len(said) <= 4, said


def test_the_first_page_takes_few_statements_however_much_there_is(full: Store) -> None:
    with gr.Blocks() as blocks:
        page = HomePage(blocks, full)
    with counting(full) as said:
        drawn = page.draw()
    assert f"All {ROWS} runs" in drawn[page.finished] and "run 49" in drawn[page.finished]
    assert "corpus 49" in drawn[page.corpora]
    assert len(said) <= 10, said


def test_totals_count_what_there_is(full: Store) -> None:
    full.queue.submit("map")
    full.workers.sign_in("w", "here", {})
    assert full.totals() == Totals(ROWS, 0, ROWS, ROWS, 1, 0, 1, has_samples=False)


def test_a_row_without_a_job_is_listed_too(full: Store) -> None:
    with Session(full.engine) as session, session.begin():
        session.add(CorpusRow(name="alone", is_sample=False))
    assert full.corpora.all()[0].job is None


def test_an_analysis_is_found_in_few_statements_among_many(full: Store) -> None:
    for number in range(ROWS):
        full.analyses.ask(1, "map", {"which": "A", "layout": "pca", "seed": number})
    with counting(full) as said:
        found = full.analyses.find(1, "map", {"layout": "pca", "seed": 7, "which": "A"})
    assert found is not None and found.params["seed"] == 7
    assert len(said) <= 4, said


def test_counting_jobs_takes_few_statements(full: Store) -> None:
    full.queue.submit("map")
    with counting(full) as said:
        assert full.queue.counts() == {"queued": 1, "running": 0}
    assert len(said) <= 4, said


@on_sqlite
@pytest.mark.parametrize("column", ["run_id", "kind"])
def test_jobs_are_found_by_an_index(full: Store, column: str) -> None:
    with full.engine.connect() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE {column} = '1'")).all()
    assert f"ix_jobs_{column}" in str(plan)


def test_a_status_that_there_is_not_is_refused_by_the_database(full: Store) -> None:
    with pytest.raises(IntegrityError, match="status"), full.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET status = 'asleep' WHERE id = 1"))


def test_the_same_question_is_one_row_whoever_asks(full: Store) -> None:
    gate, found = threading.Barrier(4), []

    def ask() -> None:
        gate.wait()
        found.append(full.analyses.ask(1, "weights").id)

    crew = [threading.Thread(target=ask) for _ in range(4)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    assert len(found) == 4 and len(set(found)) == 1
    row = full.analyses.get(found[0])
    with pytest.raises(IntegrityError, match=r"UNIQUE|unique"), Session(full.engine) as session, session.begin():
        first = session.get(AnalysisRow, row.id)
        assert first is not None
        session.add(AnalysisRow(run_id=1, kind="weights", params={}, question=first.question))


def test_a_question_that_failed_is_asked_anew_and_the_failure_stays_on_record(full: Store) -> None:
    failed = full.analyses.ask(1, "weights")
    assert failed.job is not None
    full.queue.stop(failed.job.id)
    assert full.analyses.find(1, "weights") is None
    stopped = full.analyses.find(1, "weights", failed=True)
    assert stopped is not None and stopped.id == failed.id
    again = full.analyses.ask(1, "weights")
    assert again.id != failed.id and full.analyses.get(failed.id).job is not None


def test_questions_asked_twice_before_keep_their_newest_answer(tmp_path: Path) -> None:
    root = unpack("f3124b5", tmp_path)
    connection = sqlite3.connect(root / "studio.db")
    connection.execute(
        "INSERT INTO analyses (id, run_id, kind, params, job_id, created_at) VALUES (7, 1, 'weights', '{}', 4, 1.0)"
    )
    connection.commit()
    connection.close()
    store = Store(Home(root))
    found = store.analyses.find(1, "weights")
    assert found is not None and found.id == 7 and store.analyses.get(1).kind == "weights"
    job = store.queue.submit("map")
    assert job.id == 6 and job.status == JobStatus.QUEUED  # ids go on where the old table was
