"""Three nodes of a Ray cluster, one of which is lost while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.runner.choice import KEY, NODE_LOST, Choice
from jobs.store.records import Job
from tests.chaos.verdict import Ending, Watch, check_tidy, wait_for_end
from tests.chaos.world import World, until
from tests.jobs.ray_nodes import RayNodes

RUNS, STEPS = 6, 200
WORDS = ("--tasks", "tests.chaos.arithmetic")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[RayNodes]:
    nodes = None
    try:
        nodes = RayNodes(tmp_path, others=2)
        yield nodes
    finally:
        if nodes is not None:
            nodes.close()


@pytest.fixture
def world(tmp_path: Path, nodes: RayNodes) -> Iterator[World]:
    """A home whose trainings go to the cluster, one processor each."""
    world = World(tmp_path / "home", words=WORDS)
    world.store.settings.set(KEY, Choice("ray", nodes.address, cpus=1, gpus=0).dump())
    yield world
    world.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Ending]:
    """What each training comes to on this machine, undisturbed, by its seed."""
    world = World(tmp_path_factory.mktemp("near") / "home")
    try:
        jobs = {seed: world.begin(seed, steps=STEPS) for seed in range(RUNS)}
        world.open()
        return {seed: Ending.of(world, wait_for_end(world, job, 120)) for seed, job in jobs.items()}
    finally:
        world.close()


def began_on(nodes: RayNodes, number: int, jobs: list[Job], world: World) -> list[Job]:
    """The jobs whose attempts a node works on, past their first checkpoint."""
    on_it = nodes.works_on(number)
    found = [job for job in jobs if any(str(world.home.attempts(job.id)) in folder for folder in on_it)]
    return [job for job in found if len(world.store.runs.steps(job.run_id or 0)) > 20]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install '.[ray]'")
def test_no_job_is_lost_with_a_node(nodes: RayNodes, world: World, expected: dict[int, Ending]) -> None:
    jobs = [world.begin(seed, steps=STEPS) for seed in range(RUNS)]
    world.open()
    (lost,) = until(lambda: began_on(nodes, 2, jobs, world), 120, "the third node works on nothing")
    with Watch(world, lost) as watch:
        nodes.kill(2)
        for job in jobs:
            wait_for_end(world, job, 240)
    assert watch.wrong == [] and nodes.alive() == 2
    assert {seed: Ending.of(world, job) for seed, job in enumerate(jobs)} == expected
    attempts = [world.store.queue.get(job.id).attempt for job in jobs]
    assert attempts == [2 if job.id == lost.id else 1 for job in jobs]
    assert any(event.why == NODE_LOST for event in world.store.queue.events(lost.id))
    summary = world.store.runs.get(lost.run_id or 0).summary
    assert summary is not None and (summary.resumed_from or 0) > 0
    for job in jobs:
        check_tidy(world, job)
