"""Each attempt holds a lease that its own process renews; what has lost it ends, and publishes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jobs.home import DATABASE_VARIABLE, Home
from jobs.runner import lease as leases
from jobs.runner.lease import Held, Keeper, Lease
from jobs.runner.ownership import give_up, started_in
from jobs.runner.processes import host_name
from jobs.runner.running import write_spec
from jobs.store.attempts import Attempts
from jobs.store.clock import LEASE_SECONDS
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import JobRow
from tests.jobs.conftest import PROJECT, Workshop, kill, wait_for
from tests.jobs.test_ownership import tasks_of
from tests.jobs.test_worker import alive, make_run
from tests.postgresql import on_sqlite

pytestmark = pytest.mark.databases


@pytest.fixture
def job(queue: Queue, attempts: Attempts) -> Job:
    """A job that a worker has claimed."""
    queue.submit("map", {"do": "wait"})
    job = attempts.claim("w", host_name(), "light")
    assert job is not None
    return job


@pytest.fixture
def folder(home: Home, job: Job) -> Path:
    return write_spec(home, job, None)


def set_lease(store: Store, job: Job, until: float) -> None:
    with Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).lease_until = until


def lease_of(folder: Path) -> Lease:
    """The lease of an attempt, as what looks after it is told where its database is."""
    return Lease(folder, os.environ.get(DATABASE_VARIABLE, ""))


# The lease


def test_a_renewed_lease_is_counted_from_now_on(store: Store, job: Job, folder: Path) -> None:
    set_lease(store, job, 0.0)
    assert lease_of(folder).renew() == Held.OURS
    assert abs(store.queue.get(job.id).lease_until - LEASE_SECONDS - time.time()) < 5


def test_a_lease_that_another_worker_has_taken_is_lost(store: Store, job: Job, folder: Path) -> None:
    store.attempts.adopt(job, "another", takes_lease=True)
    assert lease_of(folder).renew() == Held.LOST


def test_a_later_worker_that_adopts_a_living_attempt_leaves_its_lease(store: Store, job: Job, folder: Path) -> None:
    store.attempts.adopt(job, "another")
    assert lease_of(folder).renew() == Held.OURS


def test_the_lease_of_a_job_that_was_taken_up_again_is_lost(store: Store, job: Job, folder: Path) -> None:
    store.attempts.give_back(job, "Its worker has not been heard of.", interrupted=True)
    assert lease_of(folder).renew() == Held.LOST
    again = store.attempts.claim("another", "elsewhere", "light")
    assert again is not None and again.token != job.token
    assert lease_of(folder).renew() == Held.LOST


def test_an_attempt_that_was_given_up_has_lost_its_lease_whatever_the_database_says(job: Job, folder: Path) -> None:
    give_up(folder)
    assert lease_of(folder).renew() == Held.LOST


@on_sqlite
def test_a_database_that_cannot_be_asked_says_nothing_of_a_lease(home: Home, job: Job, folder: Path) -> None:
    (home.root / "studio.db").rename(home.root / "away.db")
    assert lease_of(folder).renew() == Held.UNKNOWN
    assert not (home.root / "studio.db").exists()


@on_sqlite
def test_a_database_of_a_url_holds_the_same_lease(home: Home, store: Store, job: Job, folder: Path) -> None:
    other = Lease(folder, f"sqlite:///{home.root / 'studio.db'}")
    assert other.renew() == Held.OURS
    store.attempts.adopt(job, "another", takes_lease=True)
    assert other.renew() == Held.LOST


@on_sqlite
def test_a_lease_of_a_shared_database_ends_its_attempt_before_another_can_take_it(
    job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(leases, "SPARE_SECONDS", 0.5)
    lease, told = Lease(folder, "postgresql+psycopg://nobody@127.0.0.1:1/none"), []
    assert lease.is_shared
    lease._values["seconds"] = 1.0
    began = time.monotonic()
    Keeper(lease, lambda: told.append("interrupt"), lambda: told.append("end"))
    wait_for(lambda: "end" in told, 10)
    assert told == ["interrupt", "end"] and 0.5 <= time.monotonic() - began


@on_sqlite
def test_an_attempt_of_a_home_in_one_file_goes_on_while_the_database_cannot_be_asked(
    home: Home, job: Job, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    (home.root / "studio.db").rename(home.root / "away.db")
    lease, told = Lease(folder), []
    keeper = Keeper(lease, lambda: told.append("interrupt"), lambda: told.append("end"))
    time.sleep(0.2)
    keeper.stop()
    assert lease.seconds_left == float("inf") and told == []


def test_leases_are_over_by_the_clock_of_the_database(store: Store, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this machine's clock is a century ahead
    assert store.attempts.orphans("w", lambda job: False) == []
    set_lease(store, job, 1.0)
    assert [orphan.id for orphan in store.attempts.orphans("w", lambda job: False)] == [job.id]


# The process


def test_an_attempt_whose_lease_is_lost_does_not_begin(store: Store, job: Job, folder: Path) -> None:
    store.attempts.adopt(job, "another", takes_lease=True)
    began = [sys.executable, "-c", f"open({str(folder / 'began')!r}, 'w')"]
    command = [sys.executable, "-m", "jobs.runner.reaper", str(folder), *began]
    told = os.environ.get(DATABASE_VARIABLE, "")
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, input=told)
    assert done.returncode == 1 and "does not begin" in done.stdout
    assert not (folder / "began").exists() and not (folder / "exit.json").exists()


def test_who_works_is_written_down_with_host_and_ticks_before_the_work_begins(folder: Path) -> None:
    says = f"import json; print(json.load(open({str(folder / 'started.json')!r})))"
    command = [sys.executable, "-m", "jobs.runner.reaper", str(folder), sys.executable, "-c", says]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, input="")
    assert done.returncode == 0, done.stderr
    who = started_in(folder)
    assert str(who) in done.stdout and who["host"] == host_name() and who["ticks"] > 0


def test_an_attempt_renews_its_lease_while_no_worker_lives(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    set_lease(workshop.store, job, 1.0)
    wait_for(lambda: workshop.store.queue.get(job.id).lease_until > time.time() + LEASE_SECONDS / 2, 20)


def test_an_attempt_ends_itself_when_its_lease_was_taken_while_no_worker_lives(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    assert workshop.store.attempts.adopt(workshop.store.queue.get(job.id), "elsewhere", takes_lease=True) is not None
    wait_for(lambda: not tasks_of(workshop.home), 20)
    wait_for(lambda: not alive((job.process or {})["pid"]), 20)


def test_the_work_ends_with_its_reaper_while_no_worker_lives(workshop: Workshop) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("wait"))
    kill(worker)
    (task,) = tasks_of(workshop.home)
    os.kill((job.process or {})["pid"], signal.SIGKILL)
    wait_for(lambda: not alive(task), 5)


def test_what_a_task_has_left_in_a_session_of_its_own_ends_with_it(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.ended(workshop.submit("leave behind"))
    assert job.status == JobStatus.SUCCEEDED
    note = workshop.home.job(job.id, 1) / "grandchild"
    assert not alive(int(note.read_text()))


# Publishing


@pytest.fixture
def trained(store: Store) -> Job:
    """A training that has written its adapter into its attempt's folder."""
    run = make_run(store)
    store.queue.submit("train", {"run_id": run}, run_id=run)
    job = store.attempts.claim("w", host_name(), "heavy")
    assert job is not None
    made = store.home.job(job.id, job.attempt) / "out" / "adapter"
    made.mkdir(parents=True)
    (made / "weights").write_text("new")
    return job


def test_what_was_made_is_published_when_its_job_succeeds(store: Store, trained: Job) -> None:
    adapter = store.home.run(trained.run_id or 0) / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_text("of an attempt before")
    (adapter / "more").touch()
    assert store.attempts.finish(trained, JobStatus.SUCCEEDED, time.time())
    assert (adapter / "weights").read_text() == "new" and not (adapter / "more").exists()
    assert [place.name for place in adapter.parent.iterdir()] == ["adapter"]


def test_an_attempt_that_lost_its_job_publishes_nothing(store: Store, trained: Job) -> None:
    store.attempts.adopt(trained, "another", takes_lease=True)
    assert not store.attempts.finish(trained, JobStatus.SUCCEEDED, time.time())
    assert not (store.home.run(trained.run_id or 0) / "adapter").exists()


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.STOPPED])
def test_what_did_not_succeed_is_not_published(store: Store, trained: Job, status: JobStatus) -> None:
    assert store.attempts.finish(trained, status, time.time())
    assert not (store.home.run(trained.run_id or 0) / "adapter").exists()


def test_what_was_put_in_its_place_by_a_commit_that_was_cut_short_is_found_there(store: Store, trained: Job) -> None:
    adapter = store.home.run(trained.run_id or 0) / "adapter"
    adapter.parent.mkdir(parents=True)
    (store.home.job(trained.id, 1) / "out" / "adapter").rename(adapter)  # and then the power went
    assert store.attempts.finish(trained, JobStatus.SUCCEEDED, time.time())
    assert (adapter / "weights").read_text() == "new"
