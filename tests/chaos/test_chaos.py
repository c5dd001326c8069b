"""The short form of `make chaos`: processes of a studio die two at a time, at the worst moments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.faults import Fault, deaths
from tests.chaos.suite import Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(1, tmp_path_factory.mktemp("chaos"))
    with suite.small_disk():
        yield suite


@pytest.mark.parametrize(
    "fault",
    [
        deaths(["worker", "job"], "checkpoint"),
        deaths(["web", "reaper"], "save"),
        deaths(["job", "worker"], "commit", between=0.1),
    ],
    ids=lambda fault: fault.details,
)
def test_a_training_ends_as_if_nothing_had_happened(suite: Suite, fault: Fault) -> None:
    verdict = suite.run(0, fault)
    assert verdict.wrong == []
    assert verdict.true_seconds is not None and verdict.true_seconds < 10


def test_the_verdict_knows_a_run_that_ended_otherwise(suite: Suite) -> None:
    def spoil(world, job) -> None:  # type: ignore[no-untyped-def]
        run = world.home.run(job.run_id)
        (run / "adapter").mkdir(parents=True)
        (run / "adapter" / "weights.part").touch()
        world.store.queue.stop(job.id)

    assert suite.run(1, Fault("a stop", "", spoil)).wrong
