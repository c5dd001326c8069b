"""Whatever an attempt has started dies with it, wherever it went: in a control group, and without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.runner import cgroup
from jobs.runner.cgroup import end_group, groups_of, make_group, name_of, processes_of, start_in
from jobs.runner.leftovers import left_groups
from jobs.runner.ownership import started_in
from jobs.runner.processes import host_name, identity, is_alive
from jobs.runner.remains import MARK, end_remains, group_of
from jobs.store.records import Job
from jobs.store.store import Store
from studio.doctor import _left_groups, sweep_all
from tests.jobs.conftest import Workshop, kill, wait_for
from tests.jobs.test_worker import alive

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def can_group() -> bool:
    """Whether this account may make a control group."""
    group = make_group(Path("/nowhere/jobs/1/1"))
    return group is not None and end_group(group)


needs_groups = pytest.mark.skipif(not can_group(), reason="this account may make no control group of version 2")


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Path]:
    """The folder of an attempt."""
    folder = tmp_path / "home" / "jobs" / "7" / "2"
    folder.mkdir(parents=True)
    yield folder
    for group, _, _ in groups_of(tmp_path / "home"):
        end_group(group)


def daemon_of(workshop: Workshop, job: Job) -> int:
    """The pid of what the attempt has sent into the background, once it is there."""
    file = workshop.home.job(job.id, 1) / "grandchild"
    wait_for(file.exists)
    return int(file.read_text())


@pytest.fixture(params=[pytest.param(True, marks=needs_groups, id="group"), pytest.param(False, id="mark")])
def grouped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether attempts find a place for control groups."""
    if not request.param:
        monkeypatch.setenv("HYDRA_STUDIO_CGROUPS", "off")
    return bool(request.param)


def test_what_went_into_the_background_dies_with_a_job_that_ends_at_a_stop(workshop: Workshop, grouped: bool) -> None:
    workshop.start()
    job = workshop.running(workshop.submit("daemon", bare=grouped))
    pid = daemon_of(workshop, job)
    assert (group_of(workshop.home.job(job.id, 1)) is not None) == grouped
    workshop.store.queue.stop(job.id)
    workshop.ended(job)
    assert not alive(pid) and not list(groups_of(workshop.home.root))


def test_what_went_into_the_background_dies_before_a_job_whose_processes_were_killed_is_tried_again(
    workshop: Workshop, grouped: bool
) -> None:
    worker = workshop.start()
    job = workshop.running(workshop.submit("daemon", bare=grouped))
    pid, reaper = daemon_of(workshop, job), started_in(workshop.home.job(job.id, 1))
    kill(worker)
    os.killpg(reaper["pid"], signal.SIGKILL)
    wait_for(lambda: not is_alive(reaper))
    assert alive(pid)  # nobody is left who would end it
    workshop.start()
    wait_for(lambda: workshop.store.queue.get(job.id).attempt == 2)
    assert not alive(pid)


# A group


@needs_groups
def test_a_process_is_in_its_group_from_its_first_moment_and_who_starts_it_is_not(attempt: Path) -> None:
    group = make_group(attempt)
    assert group is not None and group.name == name_of(attempt) and not processes_of(group)
    child = start_in(group, lambda: subprocess.Popen(SLEEP))
    assert processes_of(group) == [child.pid]
    assert end_group(group) and child.wait() == -signal.SIGKILL and not group.exists()


@needs_groups
def test_without_a_way_to_kill_a_group_at_once_its_processes_are_killed(
    attempt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "KILL", "no such file/of an old kernel")
    group = make_group(attempt)
    children = [start_in(group, lambda: subprocess.Popen(SLEEP)) for _ in range(3)]
    assert end_group(group) and [child.wait() for child in children] == [-signal.SIGKILL] * 3


@needs_groups
def test_a_group_of_another_boot_is_not_ours(attempt: Path) -> None:
    group = make_group(attempt)
    for host, found in ((host_name(), group), ("elsewhere/1234", None)):
        (attempt / "started.json").write_text(f'{{"pid": 1, "host": "{host}", "group": "{group}"}}')
        assert group_of(attempt) == found


@needs_groups
def test_groups_of_attempts_that_have_ended_are_named_and_swept(store: Store) -> None:
    works, gone = store.queue.submit("map"), store.queue.submit("map")
    store.attempts.claim("w", "here", "light")
    mine, theirs = (make_group(store.home.job(job.id, 1)) for job in (works, gone))
    child = start_in(theirs, lambda: subprocess.Popen(SLEEP))
    assert left_groups(store) == [theirs]
    (said,) = _left_groups(store)
    assert not said.ok and theirs is not None and theirs.name in said.found and "1 processes" in said.found
    assert sweep_all(store) == 1 and child.wait() == -signal.SIGKILL
    assert mine is not None and mine.exists() and _left_groups(store) == []
    end_group(mine)


# A mark


def test_a_marked_program_is_found_and_one_of_another_attempt_is_not(attempt: Path) -> None:
    mine, other = (
        subprocess.Popen(SLEEP, env={**os.environ, MARK: str(folder)}, start_new_session=True)
        for folder in (attempt, attempt.with_name("3"))
    )
    wait_for(lambda: is_alive(identity(mine.pid)))
    end_remains(attempt)
    assert mine.wait() == -signal.SIGKILL and other.poll() is None
    other.kill()
    other.wait()
