"""The queue: who gets a job, and whose writes count."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from hydralora.errors import UserError
from jobs.home import Home
from jobs.store.attempts import Attempts
from jobs.store.queue import Queue
from jobs.store.status import JobStatus
from jobs.store.store import Store

pytestmark = pytest.mark.databases


def claim_all(root: Path, name: str, found: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """In a process of its own: claim until nothing is left."""
    attempts = Store(Home(root)).attempts
    mine = []
    while (job := attempts.claim(name, "here", "light")) is not None:
        mine.append(job.id)
    found.put((name, mine))


def test_eight_processes_never_claim_the_same_job(home: Home, queue: Queue) -> None:
    wanted = {queue.submit("cluster").id for _ in range(60)}
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    crew = [context.Process(target=claim_all, args=(home.root, f"w{i}", found)) for i in range(8)]
    for process in crew:
        process.start()
    claimed = [job for _ in crew for job in found.get(timeout=120)[1]]
    for process in crew:
        process.join()
    assert sorted(claimed) == sorted(wanted)


def test_the_oldest_job_is_claimed_first(queue: Queue, attempts: Attempts) -> None:
    first, second = queue.submit("cluster"), queue.submit("cluster")
    claimed = [attempts.claim("w", "here", "light") for _ in range(2)]
    assert [job and job.id for job in claimed] == [first.id, second.id]


def test_a_light_job_does_not_wait_behind_training(queue: Queue, attempts: Attempts) -> None:
    queue.submit("train")
    light = queue.submit("cluster")
    claimed = attempts.claim("w", "here", "light")
    assert claimed is not None and claimed.id == light.id


def test_a_worker_that_lost_its_job_changes_nothing_more(queue: Queue, attempts: Attempts) -> None:
    queue.submit("cluster")
    old = attempts.claim("old", "here", "light")
    assert old is not None
    new = attempts.adopt(old, "new")
    assert new is not None and new.worker == "new"
    assert not attempts.renew(old, progress=0.9)
    assert queue.get(old.id).progress == 0.0


def test_only_one_worker_adopts_an_orphan(queue: Queue, attempts: Attempts) -> None:
    queue.submit("cluster")
    orphan = attempts.claim("dead", "here", "light")
    assert orphan is not None
    assert attempts.adopt(orphan, "first") is not None
    assert attempts.adopt(orphan, "second") is None


def test_a_finished_job_never_changes(store: Store, queue: Queue, attempts: Attempts) -> None:
    queue.submit("cluster")
    job = attempts.claim("w", "here", "light")
    assert job is not None
    assert store.attempts.finish(job, JobStatus.FAILED, time.time(), error="no")
    assert not store.attempts.finish(job, JobStatus.STOPPED, time.time())
    assert not attempts.renew(job, progress=0.5)
    assert queue.get(job.id).status == JobStatus.FAILED


def test_a_stopped_waiting_job_is_never_claimed(queue: Queue, attempts: Attempts) -> None:
    job = queue.submit("cluster")
    assert queue.stop(job.id).status == JobStatus.STOPPED
    assert attempts.claim("w", "here", "light") is None


def test_stopping_a_running_job_only_asks(queue: Queue, attempts: Attempts) -> None:
    queue.submit("cluster")
    job = attempts.claim("w", "here", "light")
    assert job is not None
    assert queue.stop(job.id).status == JobStatus.STOPPING


def test_a_finished_job_cannot_be_stopped(store: Store, queue: Queue, attempts: Attempts) -> None:
    queue.submit("cluster")
    job = attempts.claim("w", "here", "light")
    assert job is not None
    store.attempts.finish(job, JobStatus.FAILED, time.time())
    with pytest.raises(UserError, match="already finished"):
        queue.stop(job.id)


def test_a_vanished_job_waits_longer_each_time_and_is_lost_after_the_last_attempt(
    queue: Queue, attempts: Attempts
) -> None:
    queue.submit("cluster", max_attempts=2)
    job = attempts.claim("w", "here", "light")
    assert job is not None
    attempts.give_back(job, "Its process vanished.")
    assert queue.get(job.id).status == JobStatus.QUEUED
    assert attempts.claim("w", "here", "light") is None  # not before its pause is over
    again = _claim_later(attempts)
    attempts.give_back(again, "Its process vanished.")
    lost = queue.get(job.id)
    assert lost.status == JobStatus.LOST
    assert "2 times" in (lost.error or "")


def _claim_later(attempts: Attempts):  # type: ignore[no-untyped-def]
    while True:
        job = attempts.claim("w", "here", "light")
        if job is not None:
            return job
        time.sleep(0.1)


def test_of_many_who_ask_at_once_for_the_model_server_one_queues_it(store: Store, queue: Queue) -> None:
    with ThreadPoolExecutor(16) as many:
        jobs = list(many.map(lambda _: queue.only("serve", max_attempts=1).id, range(32)))
    assert len(set(jobs)) == 1 and len(queue.jobs(kind="serve")) == 1


def test_the_database_takes_no_second_open_job_of_which_there_is_one(queue: Queue) -> None:
    first = queue.only("serve")
    with pytest.raises(IntegrityError), queue._rows.writing() as session:
        queue.add(session, "serve").single = "serve"
    queue.stop(first.id)
    assert queue.only("serve").id != first.id


def test_each_machine_carries_out_the_model_server_that_was_asked_for_there(queue: Queue, attempts: Attempts) -> None:
    mine, theirs = (queue.only("serve", machine=name) for name in ("mine", "theirs"))
    assert mine.id != theirs.id and queue.only("serve", machine="mine").id == mine.id
    for host, job in (("theirs/boot", theirs), ("mine/boot", mine)):
        claimed = attempts.claim("w", host, "server")
        assert claimed is not None and (claimed.id, claimed.host) == (job.id, host)
        assert attempts.claim("w", host, "server") is None
    queue.stop(mine.id)
    anybody = queue.only("serve")
    claimed = attempts.claim("w", "any/boot", "server")
    assert claimed is not None and claimed.id == anybody.id


def test_an_unknown_job_is_named(queue: Queue) -> None:
    with pytest.raises(UserError, match="Job 77 does not exist"):
        queue.get(77)


def test_an_end_that_the_database_could_not_confirm_leaves_nothing_over(
    store: Store, queue: Queue, attempts: Attempts
) -> None:
    queue.submit("cluster")
    job = attempts.claim("w", "here", "light")
    assert job is not None and attempts.finish(job, JobStatus.STOPPED, time.time())
    made = store.home.job(job.id, 1) / "out"
    made.mkdir(parents=True)  # its worker has not come to this
    assert not attempts.finish(job, JobStatus.STOPPED, time.time())
    assert not made.exists()
