"""The contract of executors, over all that are installed: processes of this machine, submitit's local executor in
place of Slurm, a Slurm cluster where one answers, and a Ray that is started for the home."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from jobs.home import Home
from jobs.runner.begin import LEFT, REFUSED
from jobs.runner.choice import Choice
from jobs.runner.executors import Executor, find_executor
from jobs.runner.ownership import started_in
from jobs.runner.processes import family, is_alive
from jobs.runner.ray_head import WANTED, head_of, place_of
from jobs.runner.running import RunningJob, write_spec
from jobs.store.store import Store
from tests.jobs.conftest import LITTLE, end_home, wait_for

SECRET = "postgresql://studio:open-sesame@127.0.0.1:1/studio"


def has_slurm() -> bool:
    """Whether a Slurm cluster can be asked from here, and submitit is there to submit to it."""
    if shutil.which("sinfo") is None or find_spec("submitit") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode == 0


def _engine(name: str, choice: Choice, package: str = "", *, is_long: bool = False) -> Any:
    missing = bool(package) and find_spec(package) is None
    marks = [pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install '.[{name}]'")]
    return pytest.param(choice, id=name, marks=[*marks, *([pytest.mark.long] if is_long else [])])


ENGINES = [
    _engine("spawn", Choice("spawn")),
    _engine("local", Choice("local"), is_long=True),
    _engine("slurm", Choice("slurm", "local", cpus=1), "submitit"),
    pytest.param(
        Choice("slurm", cpus=1),
        id="cluster",
        marks=[pytest.mark.long, pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers here")],
    ),
    _engine("ray", Choice("ray", cpus=1, gpus=0), "ray", is_long=True),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("engines") / "home")
    yield home
    end_home(home)


@pytest.fixture(scope="module", params=ENGINES)
def choice(request: pytest.FixtureRequest) -> Choice:
    chosen: Choice = request.param
    return chosen


@pytest.fixture(scope="module")
def executor(choice: Choice, home: Home) -> Executor:
    """One that is ready."""
    executor = find_executor(choice, home.root)
    executor.check()
    wait_for(lambda: executor.is_ready("map", home.root), 120)
    return executor


class Attempt:
    """One attempt at a little task, started."""

    def __init__(self, home: Home, executor: Executor, do: str, tasks: str = LITTLE) -> None:
        self.executor = executor
        job = Store(home).queue.submit("map", {"do": do})
        self.folder = write_spec(home, job, tasks)
        self.handle = executor.start("map", self.folder, home.root)
        self.running = RunningJob(job, self.folder, self.handle)

    def under_way(self) -> Attempt:
        wait_for(lambda: self.running.new_progress().get("text") == "under way")
        return self

    def ended(self) -> dict[str, Any]:
        """Its exit, once it has ended."""
        wait_for(lambda: not self.executor.is_alive(self.handle))
        return self.running.exit() or {}


def test_an_attempt_leaves_result_exit_and_log(home: Home, executor: Executor) -> None:
    one = Attempt(home, executor, "nothing")
    assert one.ended()["code"] == 0
    assert (one.running.result() or {})["result"] == {"done": "nothing"}
    assert "under way" in (one.folder / "log.txt").read_text()
    executor.collect(one.handle)


@pytest.mark.parametrize(("do", "code"), [("bug", 2), ("die", -signal.SIGKILL)])
def test_the_end_of_its_process_is_told_as_it_was(home: Home, executor: Executor, do: str, code: int) -> None:
    assert Attempt(home, executor, do).ended()["code"] == code


def test_one_that_is_asked_to_stop_saves_its_state_and_ends(home: Home, executor: Executor) -> None:
    one = Attempt(home, executor, "wait").under_way()
    assert executor.is_alive(one.handle)
    one.running.ask_to_stop()
    executor.stop(one.handle)
    assert one.ended()["code"] == 0 and (one.running.result() or {})["status"] == "stopped"


def test_one_that_is_ended_at_once_leaves_nothing_of_what_it_started(home: Home, executor: Executor) -> None:
    one = Attempt(home, executor, "parent")
    wait_for((one.folder / "grandchild").exists)
    members = family(started_in(one.folder))
    assert len(members) == 3
    executor.stop(one.handle, at_once=True)
    wait_for(lambda: not any(is_alive(member) for member in members))
    wait_for(lambda: not executor.is_alive(one.handle))


def test_one_whose_processes_vanish_has_ended_without_a_word(home: Home, executor: Executor) -> None:
    one = Attempt(home, executor, "wait").under_way()
    os.killpg(started_in(one.folder)["pid"], signal.SIGKILL)
    assert one.ended() == {} and one.running.result() is None


def test_a_later_worker_finds_it_by_its_handle(home: Home, executor: Executor, choice: Choice) -> None:
    one = Attempt(home, executor, "wait").under_way()
    later = find_executor(choice, home.root)
    handle = json.loads(json.dumps(one.handle))
    assert later.is_alive(handle)
    later.stop(handle, at_once=True)
    wait_for(lambda: not later.is_alive(handle))
    later.collect(handle)


def test_it_is_given_no_secret_and_leaves_none(home: Home, executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Store(home).queue.submit("map", {"do": "tell"})
    folder = write_spec(home, job, "tests.security.hungry_tasks")
    monkeypatch.setenv("HYDRA_STUDIO_DATABASE", SECRET)
    handle = executor.start("map", folder, home.root)
    monkeypatch.undo()
    wait_for(lambda: not executor.is_alive(handle))
    told = (RunningJob(job, folder, handle).result() or {})["result"]
    assert "HYDRA_STUDIO_DATABASE" not in told["environment"] and told["umask"] == 0o077
    kept = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert not (folder / LEFT).exists() and all(b"open-sesame" not in text for text in kept)
    assert "open-sesame" not in executor.logs(handle)


def test_a_node_that_does_not_see_the_folder_says_so_in_a_sentence(
    home: Home, executor: Executor, choice: Choice
) -> None:
    if choice.executor in ("local", "spawn"):
        pytest.skip("this machine sees its own folder")
    job = Store(home).queue.submit("map", {"do": "nothing"})
    folder = write_spec(home, job, LITTLE)
    (folder / "log.txt").mkdir()  # what cannot be opened, whoever we are
    handle = executor.start("map", folder, home.root)
    wait_for(lambda: not executor.is_alive(handle))
    said = executor.logs(handle)
    assert f"{REFUSED} " in said and "cannot use the folder of this attempt" in said
    assert not (folder / "started.json").exists()


def test_a_ray_that_nobody_needs_ends_with_all_its_processes(home: Home, executor: Executor, choice: Choice) -> None:
    if choice.executor != "ray":
        pytest.skip("it is about Ray")
    wait_for(lambda: executor.is_ready("map", home.root))
    members = family(head_of(home.root))
    assert len(members) > 5
    os.utime(place_of(home.root) / WANTED, (0, 0))
    wait_for(lambda: not any(is_alive(member) for member in members))
    assert head_of(home.root) == {}


@pytest.mark.long
@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers here")
def test_slurm_tells_an_attempt_in_time_that_its_time_is_over(home: Home) -> None:
    soon = {"time": "3", "signal": "TERM@150"}  # minutes; seconds before the end
    one = Attempt(home, find_executor(Choice("slurm", cpus=1, options=soon), home.root), "wait").under_way()
    wait_for(lambda: not one.executor.is_alive(one.handle), 150)
    assert (one.running.result() or {})["status"] == "interrupted" and one.ended()["code"] == 0
