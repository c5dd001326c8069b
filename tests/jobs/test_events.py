"""Moves of jobs: only those of the table, each written down; interrupted is not stopped, and progress is rewarded."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jobs.runner.worker import Worker
from jobs.store.attempts import Attempts
from jobs.store.events import STUDIO, move
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.retrying import MOST_INTERRUPTIONS
from jobs.store.status import FINISHED, NEXT, JobStatus
from jobs.store.store import Store
from jobs.store.tables import EventRow, JobRow
from tests.jobs.test_damaged_files import line
from tests.jobs.test_executors import EXIT, Puppets
from tests.jobs.test_old_home import unpack
from tests.jobs.test_worker import make_run
from tests.postgresql import on_sqlite

pytestmark = pytest.mark.databases


@pytest.fixture
def puppets() -> Puppets:
    return Puppets()


@pytest.fixture
def worker(store: Store, puppets: Puppets) -> Worker:
    return Worker(store.home, store=store, executor=puppets)


def begin(store: Store, worker: Worker, kind: str = "train", most: int = 2) -> Job:
    """A job that the worker has started; a training belongs to a run."""
    links = {"run_id": make_run(store)} if kind == "train" else {}
    job = store.queue.submit(kind, {**links}, max_attempts=most, **links)
    worker.do_round()
    return store.queue.get(job.id)


def moves(store: Store, job: Job) -> list[str]:
    return [event.after for event in store.queue.events(job.id)]


# The table of moves


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobStatus, JobStatus)))
def test_a_job_makes_only_the_moves_of_the_table(store: Store, before: JobStatus, after: JobStatus) -> None:
    job = store.queue.submit("map")
    with Session(store.engine) as session, session.begin():
        row = session.get_one(JobRow, job.id)
        row.status = before
        assert move(session, row, after, "me", "so") == (after in NEXT[before])
        assert row.status == (after if after in NEXT[before] else before)
    assert store.queue.get(job.id).status == (after if after in NEXT[before] else before)


def test_of_two_that_move_a_job_the_second_changes_nothing(store: Store) -> None:
    job = store.queue.submit("map")
    with Session(store.engine, expire_on_commit=False) as session:
        row = session.get_one(JobRow, job.id)
        session.commit()
        store.queue.stop(job.id)
        assert row.status == JobStatus.QUEUED  # as it was read
        assert not move(session, row, JobStatus.RUNNING, "late", "")
        assert row.status == JobStatus.STOPPED
        session.commit()
    assert moves(store, job) == ["queued", "stopped"]


def test_the_database_takes_no_status_that_is_none(store: Store) -> None:
    job = store.queue.submit("map")
    with pytest.raises(IntegrityError), Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).status = "asleep"


@pytest.mark.parametrize(("before", "after"), [("succeeded", "running"), ("queued", "succeeded"), (None, "running")])
def test_the_database_takes_no_move_that_is_none(store: Store, before: str | None, after: str) -> None:
    job = store.queue.submit("map")
    with pytest.raises(IntegrityError, match="ck_events_move"), Session(store.engine) as session, session.begin():
        session.add(EventRow(job_id=job.id, attempt=0, before=before, after=after, who="me"))


# What is written down


def test_every_move_is_written_down_with_who_and_why(store: Store, worker: Worker, puppets: Puppets) -> None:
    job = begin(store, worker)
    store.for_user("a visitor").queue.stop(job.id)
    puppets.end(result={"status": "stopped", "progress_text": "Stopped at step 3."}, exit=EXIT)
    worker.do_round()
    events = store.queue.events(job.id)
    found = [(event.before, event.after, event.who, event.why) for event in events]
    name = f"worker {worker.me.name}"
    assert found == [
        (None, "queued", STUDIO, ""),
        ("queued", "running", name, "Attempt 1."),
        ("running", "stopping", "page", "Asked to stop."),
        ("stopping", "stopped", name, "Stopped at step 3."),
    ]
    assert all(abs(event.at - time.time()) < 60 for event in events)
    assert [event.job_id for event in store.runs.events(job.run_id or 0)] == [job.id] * 4


def test_a_home_of_an_earlier_version_has_jobs_without_events(tmp_path: Path) -> None:
    from jobs.home import Home

    old = Store(Home(unpack("f3124b5", tmp_path)))
    (run,) = old.runs.all()
    assert old.runs.events(run.id) == [] and run.job is not None
    assert JobStatus(run.job.status) in FINISHED


# Interrupted is not stopped


def test_an_interrupted_job_goes_on_at_once_and_it_does_not_count(
    store: Store, worker: Worker, puppets: Puppets
) -> None:
    job = begin(store, worker, most=1)
    for attempt in (1, 2, 3):
        assert store.queue.get(job.id).attempt == attempt
        puppets.end(result={"status": "interrupted", "progress_text": "Stopped at step 3."}, exit=EXIT)
        worker.do_round()  # takes it up again in the same round
    now = store.queue.get(job.id)
    assert (now.status, now.attempt) == (JobStatus.RUNNING, 4)
    assert moves(store, job)[:4] == ["queued", "running", "queued", "running"]


def test_a_job_that_was_asked_to_stop_and_is_interrupted_is_stopped(
    store: Store, worker: Worker, puppets: Puppets
) -> None:
    job = begin(store, worker)
    store.queue.stop(job.id)
    puppets.end(result={"status": "interrupted", "progress_text": ""}, exit=EXIT)
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.STOPPED


def test_a_server_that_is_interrupted_is_not_started_again(store: Store, worker: Worker, puppets: Puppets) -> None:
    job = begin(store, worker, "serve")
    puppets.end(result={"status": "interrupted", "progress_text": ""}, exit=EXIT)
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.STOPPED


def test_a_task_that_ended_before_it_could_listen_was_interrupted(
    store: Store, worker: Worker, puppets: Puppets
) -> None:
    job = begin(store, worker, most=1)
    puppets.end(exit={**EXIT, "code": -15})
    worker.do_round()
    assert (store.queue.get(job.id).status, store.queue.get(job.id).attempt) == (JobStatus.RUNNING, 2)


@on_sqlite
def test_after_a_restart_of_the_machine_a_job_goes_on_without_waiting(
    store: Store, worker: Worker, puppets: Puppets
) -> None:
    job = begin(store, worker, most=2)
    later = Worker(store.home, store=store, executor=puppets)
    later.me.name, later.me.host = "after the restart", worker.me.host.rpartition("/")[0] + "/another"
    later.do_round()
    assert (store.queue.get(job.id).status, store.queue.get(job.id).attempt) == (JobStatus.RUNNING, 2)
    assert [event.why for event in store.queue.events(job.id)][2:] == ["The machine was restarted.", "Attempt 2."]


@on_sqlite
def test_what_had_ended_before_the_machine_was_restarted_is_not_done_again(
    store: Store, worker: Worker, puppets: Puppets
) -> None:
    job = begin(store, worker, "map")
    puppets.end(result={"status": "succeeded", "result": {"sentence": "Done so."}}, exit=EXIT)
    later = Worker(store.home, store=store, executor=puppets)
    later.me.name, later.me.host = "after the restart", worker.me.host.rpartition("/")[0] + "/another"
    later.do_round()
    assert (store.queue.get(job.id).status, store.queue.get(job.id).attempt) == (JobStatus.SUCCEEDED, 1)


def test_a_job_that_is_interrupted_again_and_again_ends_with_a_sentence(
    store: Store, queue: Queue, attempts: Attempts
) -> None:
    job, pauses = training(store), []
    for _ in range(MOST_INTERRUPTIONS):
        assert job.status == JobStatus.RUNNING
        attempts.give_back(job, "It was interrupted.", interrupted=True)
        with Session(store.engine) as session, session.begin():
            row = session.get_one(JobRow, job.id)
            pauses.append(row.not_before > time.time())
            row.not_before = 0.0
        job = attempts.claim("w", "here", "heavy") or queue.get(job.id)
    assert job.status == JobStatus.LOST and f"{MOST_INTERRUPTIONS} times without a step further" in (job.error or "")
    assert pauses[:4] == [False] * 4 and all(pauses[4:-1])


def test_interruptions_count_anew_after_a_step_further(store: Store) -> None:
    job = training(store)
    for step in range(1, 2 * MOST_INTERRUPTIONS):
        job = killed_at(store, job, step, interrupted=True)
    assert job.status == JobStatus.RUNNING


def test_a_pause_that_a_clock_set_back_has_made_long_is_not_waited_for(
    store: Store, queue: Queue, attempts: Attempts
) -> None:
    job = queue.submit("map")
    with Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).not_before = time.time() + 3600
    assert attempts.claim("w", "here", "light") is not None


# Attempts count only without progress


def killed_at(store: Store, job: Job, step: int, *, interrupted: bool = False) -> Job:
    """The attempt has come to a step and vanishes; the next one that a worker takes, or the end."""
    folder = store.home.job(job.id, job.attempt)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(line(job.run_id or 0, n) for n in range(max(1, step - 2), step + 1)))
    store.attempts.give_back(job, "Its process vanished.", interrupted=interrupted)
    with Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).not_before = 0.0
    return store.attempts.claim("w", "here", "heavy") or store.queue.get(job.id)


def training(store: Store) -> Job:
    run = make_run(store)
    store.queue.submit("train", {"run_id": run}, run_id=run, max_attempts=2)
    job = store.attempts.claim("w", "here", "heavy")
    assert job is not None
    return job


def test_a_job_that_comes_further_each_time_is_taken_up_for_ever(store: Store) -> None:
    job = training(store)
    for step in range(3, 11):
        job = killed_at(store, job, step)
        assert job.status == JobStatus.RUNNING
    assert job.attempt == 9


def test_a_job_that_comes_no_further_is_lost_after_its_last_attempt(store: Store) -> None:
    job = training(store)
    for step in (3, 9):
        job = killed_at(store, job, step)
    job = killed_at(store, job, 9)
    assert job.status == JobStatus.RUNNING
    job = killed_at(store, job, 8)
    assert job.status == JobStatus.LOST and "2 times without a step further" in (job.error or "")
