"""The whole thread over PostgreSQL with two workers on machines of their own: a corpus is imported and grouped, a model
is trained, and whether the machine that trains it dies or is cut off, the run is the undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.home import DATABASE_VARIABLE
from jobs.store.clock import LEASE_SECONDS
from jobs.store.records import Job
from jobs.store.status import JobStatus
from tests.chaos.studio import StudioWorld
from tests.chaos.verdict import Ending, Watch, wait_for_end
from tests.chaos.world import until
from tests.jobs.test_machines import network, server
from tests.machines import Machine, Namespace, machines
from tests.postgresql import Server

__all__ = ["network", "server"]  # fixtures of that file
WORDS = ("--executor", "local")
STEPS = 200
LONG = 1.5 * LEASE_SECONDS  # of training: who is cut off for a shorter one just ends it
TRAIN_SECONDS = 400.0


@pytest.fixture
def crew(
    server: Server,
    network: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[StudioWorld, Machine, Machine]]:
    """A shared home with a small base, and two machines with a worker each."""
    name = server.new()
    monkeypatch.setenv(DATABASE_VARIABLE, server.socket_url(name))
    world = StudioWorld(tmp_path / "shared")
    with machines(server, network, name, world, 2) as (one, other):
        one.start(*WORDS)
        other.start(*WORDS)
        yield world, one, other
    world.store.engine.dispose()
    server.drop(name)


def begin(world: StudioWorld, steps: int) -> Job:
    """Queue a training; always the same one of so many steps."""
    config = world.config(seed=1)
    config["train"] |= {"max_steps": steps, "eval_every": steps // 2, "save_every": steps // 6}
    job = world.store.runs.start(world.corpus(), config).job
    assert job is not None
    return job


def group(world: StudioWorld) -> None:
    """The corpus is clustered by one of the two."""
    made = world.store.clusterings.add(world.corpus(), 2)
    assert made.job is not None
    job = made.job
    until(lambda: world.store.queue.get(job.id).is_finished, 180, "it was not grouped")
    assert world.store.queue.get(job.id).status == JobStatus.SUCCEEDED


def steps_of(world: StudioWorld, seconds: float) -> int:
    """How many steps take so long here."""
    job = begin(world, STEPS)
    wait_for_end(world, job, TRAIN_SECONDS)
    summary = world.store.runs.get(job.run_id or 0).summary
    return max(STEPS, round(seconds * STEPS / summary.seconds))


def train_in_trouble(world: StudioWorld, two: list[Machine], trouble: Callable[[Machine], None], steps: int) -> Ending:
    """What a training leaves whose machine gets into trouble, which is over once the other has begun."""
    job = begin(world, steps)
    with Watch(world, job) as watch:
        until(lambda: len(world.store.runs.steps(job.run_id or 0)) > 30, TRAIN_SECONDS, "no step came")
        host = (world.store.queue.get(job.id).host or "").partition("/")[0]
        (here,) = [machine for machine in two if machine.name == host]
        trouble(here)
        until(lambda: world.store.queue.get(job.id).attempt == 2, LEASE_SECONDS + 60, "nobody took it up")
        if here.worker is not None and here.worker.poll() is None:
            here.plug_in()
        else:
            here.start(*WORDS)
        ended = wait_for_end(world, job, TRAIN_SECONDS)
    assert watch.wrong == [] and ended.attempt == 2 and not (ended.host or "").startswith(here.name)
    return Ending.of(world, job)


@pytest.mark.long
@pytest.mark.timeout(1_200)  # two cores that others use too
def test_whatever_becomes_of_the_machine_that_trains_the_run_is_the_undisturbed_one(
    crew: tuple[StudioWorld, Machine, Machine],
) -> None:
    world, *two = crew
    group(world)
    steps = steps_of(world, LONG)
    quiet = begin(world, steps)
    wait_for_end(world, quiet, TRAIN_SECONDS)
    expected = Ending.of(world, quiet)
    assert len(expected.numbers) > steps - 2 and expected.adapter
    assert train_in_trouble(world, two, Machine.die, steps) == expected
    assert train_in_trouble(world, two, Machine.pull_out, steps) == expected
