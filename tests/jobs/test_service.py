"""The worker of a home is started, stopped, looked at and replaced; where none lives, a reader makes states true."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from jobs.home import Home
from jobs.runner import service
from jobs.runner.processes import host_name
from jobs.runner.reconcile import reconcile
from jobs.runner.service import (
    hold_lock,
    holder,
    is_older,
    is_running,
    keep_worker,
    own_version,
    sign_lock,
    wait_for_lock,
)
from jobs.runner.worker import Worker
from jobs.store.clock import LEASE_SECONDS
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import Workshop, end_home, kill, wait_for
from tests.jobs.test_executors import Puppets
from tests.jobs.test_leases import set_lease
from tests.jobs.test_worker import alive
from tests.studio.commands import Commands


@pytest.fixture
def studio(home: Home) -> Iterator[Commands]:
    yield Commands(home.root)
    end_home(home)


# One worker


def test_the_lock_says_who_holds_it_and_of_which_version(home: Home) -> None:
    lock = hold_lock(home)
    assert lock is not None and hold_lock(home) is None
    sign_lock(lock)
    who = holder(home)
    assert (who["pid"], who["version"]) == (os.getpid(), own_version()) and is_running(home)
    lock.close()
    assert not is_running(home)


def test_a_worker_that_begins_waits_for_a_reader_and_not_for_another_worker(home: Home) -> None:
    look = hold_lock(home)
    assert look is not None
    threading.Timer(0.3, look.close).start()
    lock = wait_for_lock(home)
    assert lock is not None
    sign_lock(lock)
    assert wait_for_lock(home) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("", "0+0001"), ("0.1.0+0014", "0.1.0+0015"), ("0.9.0+0015", "0.10.0+0015"), ("9.0.0+0014", "0+0015")],
)
def test_an_older_version_is_told_from_a_newer_one(one: str, other: str) -> None:
    assert is_older(one, other) and not is_older(other, one) and not is_older(other, other)


def test_a_worker_is_started_looked_at_and_stopped_and_its_job_goes_on(workshop: Workshop, studio: Commands) -> None:
    def answer(word: str) -> Any:  # in a process of its own: a second store in ours would drop the first one's locks
        done = studio.process("worker", word, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert not answer("status")["is_running"]
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    found = answer("status")
    assert (found["pid"], found["version"], found["jobs_running"]) == (worker.pid, own_version(), 1)
    stopped = answer("stop")
    assert not stopped["is_running"] and not stopped["starts_by_itself"]
    assert alive((job.process or {})["pid"])
    keep_worker(workshop.home)  # as the studio does every few seconds
    time.sleep(0.5)
    assert not is_running(workshop.home)
    started = answer("start")
    assert started["is_running"] and started["starts_by_itself"] and started["pid"] not in (None, worker.pid)
    assert workshop.store.queue.get(job.id).status == JobStatus.RUNNING


def test_a_worker_of_an_older_version_hands_its_jobs_over(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    service.start_worker(workshop.home)
    assert holder(workshop.home)["pid"] == worker.pid  # of the same version: it stays
    lock = workshop.home.root / "worker.lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "version": "0+0001"}))
    service.start_worker(workshop.home)
    assert worker.wait(timeout=30) == 0
    wait_for(lambda: workshop.store.queue.get(job.id).worker != job.worker)
    again = workshop.store.queue.get(job.id)
    assert (again.status, again.attempt, again.process) == (JobStatus.RUNNING, 1, job.process)


def test_a_worker_ends_when_the_database_has_a_newer_schema(store: Store) -> None:
    worker = Worker(store.home, store=store, executor=Puppets())
    worker.do_round()
    assert not worker.ending
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    worker.signed_at = -1e9
    waiting = store.queue.submit("map")
    worker.do_round()
    assert worker.ending and store.queue.get(waiting.id).status == JobStatus.QUEUED


def test_trouble_at_the_start_of_a_worker_does_not_end_who_keeps_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(service, "start_detached", refuse)
    keep_worker(home)
    assert not is_running(home)


def test_a_clock_that_is_set_back_does_not_silence_a_worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(store.home, store=store, executor=Puppets())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    worker.do_round()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    before = worker.signed_at
    wait_for(lambda: worker.do_round() or worker.signed_at > before, 10)


# States are true without a worker


def test_a_reader_stores_what_a_dead_worker_and_its_job_have_left(workshop: Workshop) -> None:
    worker, store = workshop.start(), workshop.store
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    os.killpg((job.process or {})["pid"], signal.SIGKILL)
    wait_for(lambda: not alive((job.process or {})["pid"]))
    reconcile(store)
    found = store.queue.get(job.id)
    assert found.status == JobStatus.QUEUED and "vanished" in found.progress_text


def test_a_reader_stores_the_end_that_no_worker_saw(workshop: Workshop) -> None:
    worker, store = workshop.start(), workshop.store
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    reconcile(store)  # it lives: it is left alone
    assert store.queue.get(job.id).status == JobStatus.RUNNING and alive((job.process or {})["pid"])
    store.queue.stop(job.id)
    reconcile(store)
    wait_for(lambda: not alive((job.process or {})["pid"]))
    reconcile(store)
    assert store.queue.get(job.id).status == JobStatus.STOPPED


def test_a_reader_leaves_everything_to_a_worker_that_lives(store: Store, home: Home) -> None:
    store.queue.submit("map")
    job = store.attempts.claim("a worker that writes nothing down", host_name(), "light")
    assert job is not None
    lock = hold_lock(home)
    reconcile(store)
    assert lock is not None and store.queue.get(job.id).worker == job.worker


def test_a_job_that_was_not_heard_of_lately_says_since_when(store: Store) -> None:
    store.queue.submit("map")
    job = store.attempts.claim("w", "elsewhere", "light")
    assert job is not None and store.queue.silent_since(job) is None
    heard = time.time() - 9.0
    set_lease(store, job, heard + LEASE_SECONDS)
    assert store.queue.silent_since(job) == pytest.approx(heard)
    store.attempts.finish(job, JobStatus.FAILED, time.time())
    assert store.queue.silent_since(job) is None


def test_a_worker_that_is_still_loading_is_not_started_again(home: Home) -> None:
    service.start_worker(home)
    child, _ = service._begun[str(home.root)]
    service.start_worker(home)
    service.start_worker(home)
    assert service._begun[str(home.root)][0] is child
    wait_for(lambda: is_running(home), 60)
    end_home(home)
    child.wait(20)
    service.start_worker(home)
    assert service._begun[str(home.root)][0] is not child
    end_home(home)
