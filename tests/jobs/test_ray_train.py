"""One run trained by processes on two nodes of a Ray cluster: the run of one process, and one attempt as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from hydralora.errors import UserError
from hydralora.files import list_checkpoints
from jobs.runner.begin import _environment, is_over_nodes, leave_needs
from jobs.runner.choice import KEY, NODE_LOST, Choice
from jobs.runner.ownership import started_in
from jobs.runner.processes import family, is_alive
from jobs.runner.processes import kill as kill_all
from jobs.runner.ray_rank import ENVIRONMENT, LostError
from jobs.runner.ray_room import here, needs_on, refuse_too_small, trainings_on
from jobs.runner.ray_train import _cause
from jobs.runner.remains import marked
from jobs.store.records import Job
from jobs.store.status import JobStatus
from tests.jobs.conftest import PROJECT, end_home, wait_for
from tests.jobs.ray_nodes import RayNodes
from tests.jobs.test_artefacts import Machine
from tests.jobs.test_ranks import Trainings, assert_same

NO_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
SHORT, LONG = {"max_steps": 6, "save_every": 0}, {"max_steps": 400, "save_every": 8}


class Studios:
    """Homes with one run each, whose workers have it trained by two processes on the nodes."""

    def __init__(self, folder: Path) -> None:
        self.nodes, self.trainings = RayNodes(folder, others=1, cpus=2), Trainings(folder)
        self.choice = Choice("ray", self.nodes.address, cpus=1, gpus=0, processes=2)
        self.open: list[Machine] = []

    def start(self, name: str, train: dict[str, Any], method: str = "hydralora") -> tuple[Machine, Job]:
        """A run, and a worker that takes it to the nodes."""
        machine, _ = self.trainings.start(name, train, method)
        self.open.append(machine)
        return machine, begin(machine, self.choice)

    def places(self) -> list[int]:
        """How many processes train along, by node."""
        return [len(self.nodes.trains_on(number)) for number in (0, 1)]

    def close(self) -> None:
        for machine in self.open:
            end_home(machine.home)
        self.nodes.close()


def begin(machine: Machine, choice: Choice) -> Job:
    """Have a worker take the only run where ``choice`` says."""
    machine.store.settings.set(KEY, choice.dump())
    words = [sys.executable, "-m", "jobs.runner.worker", "--home", str(machine.home.root)]
    with (machine.home.root / "worker.txt").open("ab") as log:
        subprocess.Popen(words, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True)
    return machine.store.queue.jobs(kind="train", limit=1)[0]


@pytest.fixture(scope="module")
def studios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studios]:
    found = None
    try:
        found = Studios(tmp_path_factory.mktemp("nodes"))
        yield found
    finally:
        if found is not None:
            found.close()


@pytest.fixture(scope="module")
def alone(studios: Studios) -> Callable[[dict[str, Any]], tuple[Machine, int]]:
    """What one process of this machine makes of the same run."""
    found: dict[int, tuple[Machine, int]] = {}

    def train(settings: dict[str, Any]) -> tuple[Machine, int]:
        steps = settings["max_steps"]
        if steps not in found:
            found[steps] = studios.trainings.start(f"alone-{steps}", settings)
            assert found[steps][0].work().status == JobStatus.SUCCEEDED
        return found[steps]

    return train


def ended(machine: Machine, job: Job) -> Job:
    wait_for(lambda: machine.store.queue.get(job.id).is_finished, 280)
    return machine.store.queue.get(job.id)


def past_a_checkpoint(machine: Machine, job: Job) -> None:
    wait_for(lambda: list_checkpoints(machine.home.near.run(job.run_id or 0)), 200)


def working(machine: Machine, job: Job) -> psutil.Process:
    """The attempt's own process."""
    children = psutil.Process(started_in(machine.home.job(job.id, 1))["pid"]).children()
    return next(child for child in children if "jobs.runner.child" in child.cmdline())


def check_whole(studios: Studios, machine: Machine, job: Job, other: tuple[Machine, int]) -> None:
    """The run of one process came out, and nothing of the attempts is left on any node."""
    assert_same(machine.store, job.run_id or 0, other[0].store, other[1])
    check_nothing_left(studios, machine, job)


def check_nothing_left(studios: Studios, machine: Machine, job: Job) -> None:
    wait_for(lambda: sum(studios.places()) == 0, 30)
    wait_for(lambda: not any(studios.nodes.actors(number) for number in (0, 1)), 60)
    attempts = list(machine.home.attempts(job.id).glob("*"))
    wait_for(lambda: not any(marked(folder) for folder in attempts), 30)
    assert not any((folder / ENVIRONMENT).exists() for folder in attempts)


@NO_RAY
@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_nodes_train_the_run_of_one_process(studios: Studios, alone: Any) -> None:
    machine, job = studios.start("spread", SHORT)
    wait_for(lambda: studios.places() == [1, 1], 200)
    done = ended(machine, job)
    assert done.status == JobStatus.SUCCEEDED and done.attempt == 1, done.error
    check_whole(studios, machine, job, alone(SHORT))


@NO_RAY
@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_several_cannot_train_is_trained_by_one_process_on_a_node(studios: Studios) -> None:
    machine, job = studios.start("adalora", SHORT, "adalora")
    wait_for(lambda: sum(studios.places()) == 1, 200)
    done = ended(machine, job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert "One process trains, not 2: AdaLoRA" in (machine.home.job(job.id, 1) / "log.txt").read_text()
    check_nothing_left(studios, machine, job)


@NO_RAY
@pytest.mark.long
@pytest.mark.timeout(600)
def test_one_that_is_stopped_keeps_a_checkpoint_and_leaves_no_process(studios: Studios, alone: Any) -> None:
    machine, job = studios.start("stopped", LONG)
    past_a_checkpoint(machine, job)
    machine.store.queue.stop(job.id)
    assert ended(machine, job).status == JobStatus.STOPPED
    assert list_checkpoints(machine.home.near.run(job.run_id or 0))
    check_nothing_left(studios, machine, job)


@NO_RAY
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lost", ["process", "own process", "nothing", "node"])
def test_an_attempt_ends_as_a_whole_and_the_next_goes_on(studios: Studios, alone: Any, lost: str) -> None:
    machine, job = studios.start(lost.replace(" ", "-"), LONG)
    past_a_checkpoint(machine, job)
    if lost == "process":
        studios.nodes.trains_on(1)[0].kill()
    elif lost == "own process":
        owner = started_in(machine.home.job(job.id, 1))
        kill_all(family(owner))
        wait_for(lambda: not is_alive(owner))
    elif lost == "nothing":  # it is told to end, as when its machine shuts down
        working(machine, job).terminate()
    else:
        studios.nodes.kill(1)
    done = ended(machine, job)
    assert done.status == JobStatus.SUCCEEDED and done.attempt == 2, done.error
    assert (done.result or {})["resumed_from"] >= 8
    why = {event.why for event in machine.store.queue.events(job.id)}
    assert (NODE_LOST in why) == (lost in ("own process", "node")), why  # who looks after it is gone with the node
    check_whole(studios, machine, job, alone(LONG))


@NO_RAY
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two processors")
def test_a_ray_of_the_homes_own_has_its_token_asked_of_the_processes_too(tmp_path: Path) -> None:
    # Last: Ray's actors ask the cluster of this machine that was started last.
    machine, _ = Trainings(tmp_path).start("own", SHORT)
    try:
        job = begin(machine, Choice("ray", cpus=1, gpus=0, processes=2))
        done = ended(machine, job)
        assert done.status == JobStatus.SUCCEEDED, done.error
    finally:
        end_home(machine.home)


def test_several_processes_of_one_run_are_refused_where_no_engine_has_them() -> None:
    with pytest.raises(UserError, match=r"--job-processes 2 with slurm\. .* take --executor local or ray"):
        Choice("slurm", processes=2)


@pytest.mark.parametrize(
    ("choice", "nodes", "why"),
    [
        (Choice("ray", cpus=2, processes=2), [{"CPU": 2.0}, {"CPU": 1.0}], r"1 of the 2 .* \(2 CPUs and 0 GPUs each\)"),
        (Choice("ray", cpus=1, processes=4), [{"CPU": 8.0, "GPU": 2.0}], r"2 of the 4 .* \(1 CPUs and 1 GPUs each\)"),
        (Choice("ray", memory_gib=4, processes=2), [{"CPU": 8.0, "memory": 2.0**33}], r"1 of the 2 .* \(4 GiB, 2 CPUs"),
    ],
)
def test_a_cluster_that_can_never_hold_a_run_says_so(choice: Choice, nodes: list[dict[str, float]], why: str) -> None:
    with pytest.raises(UserError, match=rf"has room for {why}.*--job-processes"):
        refuse_too_small(choice, nodes)


def test_trainings_fit_with_all_of_their_processes_or_not_at_all() -> None:
    nodes = [{"CPU": 3.0, "memory": 1.0}, {"CPU": 2.0, "memory": 1.0}]
    assert [trainings_on(nodes, Choice("ray", cpus=1, processes=number)) for number in (1, 2, 3, 6)] == [5, 2, 1, 0]
    assert needs_on(nodes, Choice("ray", cpus=1)) == {"CPU": 1, "GPU": 0, "memory": 0}
    refuse_too_small(Choice("ray", cpus=1, gpus=0), here())


@pytest.mark.parametrize("asks", [True, False])
def test_only_an_attempt_that_asks_for_processes_knows_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    if asks:
        leave_needs(tmp_path, {"CPU": 1, "GPU": 0, "memory": 0})
    assert is_over_nodes(tmp_path) == asks
    assert ("RAY_ADDRESS" in _environment(tmp_path, {"environment": {}, "gpus": 0})) == asks


@NO_RAY
def test_what_a_process_said_goes_before_what_others_saw_of_its_end() -> None:
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError

    user, bug, peer = (UserExceptionWithTraceback(kind("Why."), "") for kind in (UserError, RuntimeError, LostError))
    died = WorkerHealthCheckFailedError("", OSError())
    assert isinstance(_cause([peer, bug, user]), UserError) and isinstance(_cause([peer, bug]), RuntimeError)
    assert isinstance(lost := _cause([peer, died]), LostError) and not lost.is_known
