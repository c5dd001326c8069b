"""Nothing works on an attempt beside the next one: each way in which two trainers once shared a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hydralora.errors import StoppedError
from hydralora.progress import Progress
from jobs.home import Home
from jobs.runner.executors.local import LocalExecutor
from jobs.runner.ownership import alone_in, announce, give_up, started_in
from jobs.runner.processes import family, host_name, identity, is_alive, kill
from jobs.runner.worker import Worker
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import JobRow
from tests.jobs.conftest import LITTLE, PROJECT, Workshop, end_home, wait_for
from tests.jobs.test_damaged_files import folder_of, line, stored_steps, write_lines
from tests.jobs.test_executors import Puppets
from tests.jobs.test_worker import alive, make_run


def tasks_of(home: Home) -> list[int]:
    """Processes that do the work of some attempt in this home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[1:3] == ["-m", "jobs.runner.child"] and str(home.root) in words[3] and alive(process.pid):
            found.append(process.pid)
    return found


# The four ways


def test_a_job_whose_reaper_was_killed_is_ended_before_it_is_tried_again(workshop: Workshop) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("wait"))
    (first,) = tasks_of(workshop.home)
    os.kill((job.process or {})["pid"], signal.SIGKILL)
    wait_for(lambda: workshop.store.queue.get(job.id).attempt == 2)
    assert not alive(first)
    workshop.running(job)
    assert len(tasks_of(workshop.home)) == 1


class Dying(LocalExecutor):
    """Starts an attempt, and its worker dies before it can store what was started."""

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Any:
        super().start(kind, folder, cwd, gpu)
        raise SystemExit


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_worker_that_died_before_it_stored_the_pid_leaves_one_owner(
    home: Home, store: Store, has_begun: bool, workers: list[Worker]
) -> None:
    job = store.queue.submit("map", {"do": "wait"}, max_attempts=3)
    first = Worker(home, store=store, tasks=LITTLE, executor=Dying(forks=False))
    with pytest.raises(SystemExit):
        first.do_round()
    assert store.queue.get(job.id).process is None
    if has_begun:
        wait_for(lambda: started_in(home.job(job.id, 1)))
    later = Worker(home, store=store, tasks=LITTLE, executor=LocalExecutor(forks=False))
    later.me.name = "a later worker"
    workers.append(later)

    def is_under_way() -> bool:
        later.do_round()
        return store.queue.get(job.id).progress_text == "under way"

    wait_for(is_under_way)
    found = store.queue.get(job.id)
    assert found.attempt == (1 if has_begun else 2) and is_alive(found.process)
    wait_for(lambda: len(tasks_of(home)) == 1)


@pytest.fixture
def workers(home: Home) -> Iterator[list[Worker]]:
    yield []
    end_home(home)


def test_a_step_of_the_clock_makes_no_process_another(workshop: Workshop) -> None:
    me = identity()
    assert me["ticks"] is not None
    assert is_alive({**me, "created": me["created"] + 2.0})  # what the time of its start looks like after the step
    assert not is_alive({**me, "ticks": me["ticks"] + 1})
    assert not is_alive({**me, "boot": "another"})
    assert is_alive({"pid": me["pid"], "created": me["created"]})  # as earlier versions stored it


def test_a_worker_whose_lease_was_taken_ends_its_attempt_and_stores_nothing_more(store: Store) -> None:
    puppets = Puppets()
    worker, run = Worker(store.home, store=store, executor=puppets), make_run(store)
    job = store.queue.submit("train", {"run_id": run}, run_id=run)
    worker.do_round()
    job = store.queue.get(job.id)
    write_lines(store, job, line(run, 1))
    take_lease_away(store, job)
    other = Worker(store.home, store=store, executor=Puppets())
    other.me.name, other.me.host = "another machine", "elsewhere/" + worker.me.host.rpartition("/")[2]
    other.do_round()
    again = store.queue.get(job.id)
    assert (again.attempt, again.host) == (2, other.me.host) and stored_steps(store, job) == [1]
    write_lines(store, job, line(run, 2))  # by the first attempt, which does not know yet
    worker.do_round()
    assert not puppets.alive and not worker.care.running
    assert stored_steps(store, job) == [1] and store.queue.get(job.id).status == JobStatus.RUNNING
    assert folder_of(store, job) != folder_of(store, again)


def take_lease_away(store: Store, job: Job) -> None:
    from sqlalchemy.orm import Session

    with Session(store.engine) as session, session.begin():
        session.get_one(JobRow, job.id).lease_until = 0.0


# One trainer in one folder

HOLDER = """
import sys, time
from pathlib import Path
from hydralora.progress import SILENT
from jobs.runner.ownership import alone_in
with alone_in(Path(sys.argv[1]), SILENT):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that trains in a folder for ever."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT)
    assert process.stdout is not None and process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_trainer_waits_until_the_first_has_gone(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    told: list[str] = []

    def report(share: float, text: str) -> None:
        told.append(text)
        if len(told) == 2:  # it has waited
            holder.kill()

    with alone_in(tmp_path, Progress(report=report)):
        assert holder.wait(timeout=30) == -signal.SIGKILL
    assert len(told) >= 2 and "earlier attempt" in told[0]


def test_a_trainer_that_waits_can_be_stopped(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    stopping = Progress(should_stop=lambda: True)
    with pytest.raises(StoppedError, match="what it had kept is still there"), alone_in(tmp_path, stopping):
        raise AssertionError("two trainers in one folder")
    assert holder.poll() is None


# Who is who


def test_what_is_left_of_a_session_is_found_without_its_leader() -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    leader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    child, who = int(leader.stdout.readline()), identity(leader.pid)
    assert {member["pid"] for member in family(who)} == {leader.pid, child}
    leader.kill()
    leader.wait()
    assert [member["pid"] for member in family(who)] == [child]
    kill(family(who))
    assert family(who) == [] and not alive(child)


def test_the_number_of_a_dead_leader_that_another_has_names_nobody() -> None:
    me = identity()
    assert family({**me, "ticks": me["ticks"] - 1}) == []


def test_an_attempt_that_was_given_up_does_not_begin(tmp_path: Path) -> None:
    assert announce(tmp_path) and started_in(tmp_path) == {**identity(), "host": host_name()}
    give_up(tmp_path)
    assert not announce(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "1"}', "\x00"])
def test_a_damaged_announcement_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "started.json").write_text(text)
    assert started_in(tmp_path) == {}
