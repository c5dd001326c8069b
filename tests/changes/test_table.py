"""The table of CONTRIBUTING: what it must cover, and that its places exist."""

from __future__ import annotations

import pytest

from tests.changes.scratch import MOST_PLACES, PROJECT, table

TASKS = (
    "a routed method with another gate",
    "a file format",
    "a training setting",
    "a metric of every step",
    "an analysis view",
    "a kind of job",
    "a page",
    "a base-model family",
    "an executor",
    "a palette",
)


def test_the_ten_tasks_are_there() -> None:
    assert set(TASKS) <= set(table())


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_at_most_five_places(task: str) -> None:
    assert 1 <= len(table()[task]) <= MOST_PLACES


@pytest.mark.parametrize("task", TASKS)
def test_its_places_exist_or_are_to_be_made(task: str) -> None:
    for place in table()[task]:
        path = PROJECT / place
        assert path.parent.is_dir() if "NAME" in place else path.is_file(), place
