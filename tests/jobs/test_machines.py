"""Two machines over one PostgreSQL and one folder: both work, and whatever dies or is cut off, each run ends once and
as if nothing had happened."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.home import DATABASE_VARIABLE
from jobs.runner.ownership import started_in
from jobs.store.clock import LEASE_SECONDS
from jobs.store.records import Job
from tests.chaos.arithmetic import FILE_BYTES, FILES, numbers_of
from tests.chaos.verdict import Watch, check_tidy, wait_for_end
from tests.chaos.world import STEPS, World, until
from tests.machines import Machine, Namespace, can_separate, machines
from tests.postgresql import Server, binaries

LONG = 2_500  # steps: longer than a lease
CUT_SECONDS = 30.0  # after which an attempt goes on as if nothing had happened


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    """The network of the server."""
    if not can_separate():
        pytest.skip("this account may make no networks: run as root")
    made = Namespace("server")
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(postgresql: Server, network: Namespace) -> Iterator[Server]:
    """A server that the machines reach by their cables, and we by its socket."""
    programs = binaries()
    assert programs is not None
    made = Server(programs, network.pid)
    yield made
    made.stop()


@pytest.fixture
def crew(
    server: Server, network: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, Machine, Machine]]:
    """A shared home and two machines with a worker each."""
    name = server.new()
    monkeypatch.setenv(DATABASE_VARIABLE, server.socket_url(name))
    world = World(tmp_path / "shared")
    with machines(server, network, name, world, 2) as (one, other):
        one.start()
        other.start()
        yield world, one, other
    world.store.engine.dispose()
    server.drop(name)


def check_whole(world: World, job: Job, seed: int = 1, steps: int = STEPS) -> None:
    """Its numbers, gates and adapter are those of an undisturbed run: each step once, none lost, none changed."""
    state, expected = f"seed {seed}", {}
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        expected[step] = numbers_of(state)
    found = {step.step: step for step in world.store.runs.steps(job.run_id or 0)}
    assert sorted(found) == sorted(expected)
    assert {step: one.numbers["loss"] for step, one in found.items()} == {
        step: one["loss"] for step, one in expected.items()
    }
    for step, one in found.items():
        assert (one.gates or {})["layer"] == pytest.approx(expected[step]["gates"]["layer"], abs=2e-5)
    adapter = world.home.run(job.run_id or 0) / "adapter"
    for number in range(FILES):
        block = hashlib.sha256(f"{state} file {number}".encode()).digest()
        assert (adapter / f"weights-{number}").read_bytes() == block * (FILE_BYTES // len(block))
    check_tidy(world, job)


def where(crew: tuple[World, Machine, Machine], job: Job) -> tuple[Machine, Machine]:
    """The machine that works on a job, and the other one; once numbers have come."""
    world, *two = crew
    until(lambda: len(world.store.runs.steps(job.run_id or 0)) > 20, 60, "no step came")
    host = (world.store.queue.get(job.id).host or "").partition("/")[0]
    (here,) = [machine for machine in two if machine.name == host]
    (there,) = [machine for machine in two if machine.name != host]
    return here, there


def owner(world: World, job: Job, attempt: int = 1) -> dict[str, object]:
    return started_in(world.home.job(job.id, attempt))


@pytest.mark.long
def test_two_machines_share_the_work_and_each_keeps_its_own_state(crew: tuple[World, Machine, Machine]) -> None:
    world, one, other = crew
    jobs = [world.begin(seed=seed) for seed in range(4)]
    ended = [wait_for_end(world, job, 120) for job in jobs]
    for seed, job in enumerate(ended):
        check_whole(world, job, seed)
    hosts = {(job.host or "").partition("/")[0] for job in ended}
    assert hosts == {one.name, other.name} and {job.attempt for job in ended} == {1}
    for machine in (one, other):
        assert (machine.folder / "worker.lock").exists() and not (world.home.root / "worker.lock").exists()


@pytest.mark.long
def test_a_worker_that_is_killed_leaves_its_job_to_the_next_on_its_machine(
    crew: tuple[World, Machine, Machine],
) -> None:
    world = crew[0]
    job = world.begin(seed=1, steps=400)
    with Watch(world, job) as watch:
        here, _ = where(crew, job)
        here.kill_worker()
        here.start()
        ended = wait_for_end(world, job, 120)
    assert watch.wrong == [] and ended.attempt == 1
    check_whole(world, job, steps=400)


@pytest.mark.long
@pytest.mark.parametrize("victim", [1, 2])
def test_the_job_of_a_machine_that_died_is_taken_up_by_the_other_once_its_lease_is_over(
    crew: tuple[World, Machine, Machine], victim: int
) -> None:
    world, machine = crew[0], (crew[1], crew[2])[2 - victim]
    machine.kill_worker()  # so that the victim has the job
    job = world.begin(seed=1, steps=400)
    with Watch(world, job) as watch:
        here, there = where(crew, job)
        here.die()
        there.start()
        until(lambda: world.store.queue.silent_since(world.store.queue.get(job.id)), 10, "its silence was not told")
        ended = wait_for_end(world, job, LEASE_SECONDS + 90)
    assert watch.wrong == [] and ended.attempt == 2
    assert (ended.host or "").startswith(there.name)
    check_whole(world, job, steps=400)


@pytest.mark.long
def test_an_attempt_that_is_cut_off_ends_itself_and_the_other_machine_goes_on_from_its_checkpoint(
    crew: tuple[World, Machine, Machine],
) -> None:
    world = crew[0]
    job = world.begin(seed=1, steps=LONG)
    with Watch(world, job) as watch:
        here, there = where(crew, job)
        first = owner(world, job)
        here.pull_out()
        until(lambda: world.store.queue.silent_since(world.store.queue.get(job.id)), 12, "its silence was not told")
        assert here.has(first)
        until(lambda: not here.has(first), LEASE_SECONDS, "it did not end before its lease was over")
        assert world.store.queue.get(job.id).attempt == 1  # nobody else has begun yet
        until(lambda: world.store.queue.get(job.id).attempt == 2, LEASE_SECONDS, "nobody took it up")
        assert (world.store.queue.get(job.id).host or "").startswith(there.name)
        here.plug_in()
        ended = wait_for_end(world, job, 240)
    assert watch.wrong == [] and ended.attempt == 2 and here.worker is not None and here.worker.poll() is None
    assert (world.store.runs.get(job.run_id or 0).summary or ended).resumed_from  # type: ignore[union-attr]
    check_whole(world, job, steps=LONG)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [9.0, CUT_SECONDS])
def test_a_short_cut_of_the_cable_changes_nothing(crew: tuple[World, Machine, Machine], seconds: float) -> None:
    world = crew[0]
    job = world.begin(seed=1, steps=1_600)
    with Watch(world, job) as watch:
        here, _ = where(crew, job)
        here.pull_out()
        began = time.monotonic()
        until(lambda: world.store.queue.silent_since(world.store.queue.get(job.id)), 12, "its silence was not told")
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        here.plug_in()
        ended = wait_for_end(world, job, 180)
    assert watch.wrong == [] and ended.attempt == 1
    check_whole(world, job, steps=1_600)
