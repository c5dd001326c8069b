"""The worker with real processes: ends of all kinds, deaths at bad moments, stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from jobs.home import Home
from jobs.store.logs import page
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import PROJECT, Workshop, kill, wait_for


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_job_succeeds_and_keeps_its_result(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.ended(workshop.submit("nothing"))
    assert job.status == JobStatus.SUCCEEDED
    assert (job.result or {})["done"] == "nothing"
    assert job.progress == 1.0


@pytest.mark.parametrize("executor", ["local", "spawn"])
def test_what_has_ended_is_waited_for_so_that_no_zombie_stays(workshop: Workshop, executor: str) -> None:
    worker = psutil.Process(workshop.start(executor).pid)
    job = workshop.store.queue.submit("push", {"do": "nothing"})  # of a kind that is not forked from what has torch
    assert workshop.ended(job).status == JobStatus.SUCCEEDED
    wait_for(lambda: psutil.STATUS_ZOMBIE not in [child.status() for child in worker.children()], 20)


@pytest.mark.parametrize(
    ("do", "kind", "words"),
    [
        ("refuse", "user", "Row 3: `answer` is empty"),
        ("bug", "bug", "The log holds the details"),
        ("memory", "memory", "batch_size"),
        ("disk", "disk", "The disk is full"),
    ],
)
def test_a_failed_job_says_what_happened(workshop: Workshop, do: str, kind: str, words: str) -> None:
    workshop.start()
    slow = do == "memory"  # as a training, which may take all memory there is
    job = workshop.ended(workshop.submit(do, slow=slow))
    assert (job.status, job.error_kind) == (JobStatus.FAILED, kind)
    assert words in (job.error or "") and "Traceback" not in (job.error or "")
    assert "Traceback" in page(workshop.home, job).text


def test_a_killed_job_is_tried_again_and_then_called_lost(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.ended(workshop.submit("die"))
    assert (job.status, job.attempt) == (JobStatus.LOST, 2)
    assert "killed" in (job.error or "")


def test_a_crash_in_a_library_is_not_tried_again(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.ended(workshop.submit("crash"))
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert "crashed" in (job.error or "")


def test_no_number_is_lost_or_doubled_when_a_job_is_killed_and_goes_on(workshop: Workshop) -> None:
    store = workshop.store
    run = make_run(store)
    workshop.start()
    job = workshop.submit("steps", slow=True, run_id=run, count=30, dies_at=17)
    assert workshop.ended(job).status == JobStatus.SUCCEEDED
    assert [step.step for step in store.runs.steps(run)] == list(range(1, 31))
    assert store.queue.get(job.id).attempt == 2


def test_a_killed_worker_leaves_no_job_running_for_ever(workshop: Workshop) -> None:
    store = workshop.store
    run = make_run(store)
    worker = workshop.start()
    job = workshop.submit("steps", slow=True, run_id=run, count=60, pause=0.05)
    wait_for(lambda: store.runs.steps(run))
    kill(worker)
    workshop.start()
    ended = workshop.ended(job)
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 1)  # the process itself was adopted
    assert [step.step for step in store.runs.steps(run)] == list(range(1, 61))


def test_a_job_that_ended_while_no_worker_lived_is_still_counted(workshop: Workshop) -> None:
    store = workshop.store
    run = make_run(store)
    worker = workshop.start()
    job = workshop.running(workshop.submit("steps", slow=True, run_id=run, count=10, pause=0.05))
    kill(worker)
    wait_for(lambda: (store.home.job(job.id, 1) / "exit.json").exists())
    workshop.start()
    assert workshop.ended(job).status == JobStatus.SUCCEEDED
    assert len(store.runs.steps(run)) == 10


def test_worker_and_job_killed_together_leave_a_job_that_is_taken_up_again(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    os.killpg((job.process or {})["pid"], signal.SIGKILL)
    workshop.start()
    again = wait_for(
        lambda: (j := workshop.store.queue.get(job.id)).attempt == 2 and j.progress_text == "under way" and j
    )
    assert again.status == JobStatus.RUNNING


def test_a_job_that_is_ended_from_outside_goes_on_by_itself(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("once interrupted", max_attempts=1))
    os.killpg((job.process or {})["pid"], signal.SIGTERM)  # as at a shutdown: nobody has asked for a stop
    ended = workshop.ended(job)
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 2)
    (again,) = [event for event in workshop.store.queue.events(job.id) if event.after == JobStatus.QUEUED][1:]
    assert again.before == JobStatus.RUNNING and "interrupted" in again.why


def test_worker_and_job_that_are_asked_to_end_together_go_on_with_the_next_worker(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("once interrupted", max_attempts=1))
    worker.terminate()
    os.killpg((job.process or {})["pid"], signal.SIGTERM)
    worker.wait(timeout=30)
    workshop.start()
    assert workshop.ended(job).status == JobStatus.SUCCEEDED


def test_stop_ends_a_job_that_listens(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("wait"))
    workshop.store.queue.stop(job.id)
    ended = workshop.ended(job)
    assert (ended.status, ended.progress_text) == (JobStatus.STOPPED, "Stopped as asked.")


def test_stop_ends_a_job_that_does_not_listen_with_all_its_children(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("parent"))
    note = workshop.home.job(job.id, 1) / "grandchild"
    wait_for(lambda: note.exists() and note.read_text())
    grandchild = int(note.read_text())
    workshop.store.queue.stop(job.id)
    assert workshop.ended(job).status == JobStatus.STOPPED
    wait_for(lambda: not alive(grandchild))
    wait_for(lambda: not alive((job.process or {})["pid"]))


def test_stop_ends_a_deaf_job_after_the_grace(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("deaf"))
    workshop.store.queue.stop(job.id)
    assert workshop.ended(job).status == JobStatus.STOPPED
    wait_for(lambda: not alive((job.process or {})["pid"]))


def test_a_light_job_runs_while_a_heavy_one_does(workshop: Workshop) -> None:
    workshop.start()
    heavy = workshop.running(workshop.submit("wait", slow=True))
    assert workshop.ended(workshop.submit("nothing")).status == JobStatus.SUCCEEDED
    assert workshop.store.queue.get(heavy.id).status == JobStatus.RUNNING


def test_heavy_jobs_run_one_after_the_other(workshop: Workshop) -> None:
    workshop.start()
    first = workshop.running(workshop.submit("wait", slow=True))
    second = workshop.submit("nothing", slow=True)
    workshop.ended(workshop.submit("nothing"))
    assert workshop.store.queue.get(second.id).status == JobStatus.QUEUED
    workshop.store.queue.stop(first.id)
    assert workshop.ended(second).status == JobStatus.SUCCEEDED


def test_only_one_worker_serves_a_home(workshop: Workshop) -> None:
    workshop.start()
    command = [sys.executable, "-m", "jobs.runner.worker", "--home", str(workshop.home.root)]
    second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert second.returncode == 0
    assert "already running" in second.stdout


def test_a_worker_that_is_asked_to_end_leaves_its_jobs_alone(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    worker.terminate()
    worker.wait(timeout=30)
    assert workshop.store.workers.seen() == []
    assert alive((job.process or {})["pid"])


def make_run(store: Store) -> int:
    """A run's row without a real corpus, for numbers to belong to."""
    from sqlalchemy.orm import Session

    from jobs.store.tables import CorpusRow, RunRow

    with Session(store.engine) as session, session.begin():
        corpus = CorpusRow(name="c", is_sample=False)
        session.add(corpus)
        session.flush()
        run = RunRow(name="r", corpus_id=corpus.id, config={}, is_sample=False)
        session.add(run)
        session.flush()
        return run.id


def test_a_home_is_private(tmp_path: Path) -> None:
    assert Home(tmp_path / "h").root.stat().st_mode & 0o077 == 0
