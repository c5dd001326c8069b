"""The order in which waiting jobs begin, and what people change about it; by store and by command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hydralora.errors import UserError
from jobs.home import Home
from jobs.runner.worker import Worker
from jobs.store.queue import Queue
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import end_home
from tests.jobs.test_executors import EXIT, Puppets
from tests.studio.commands import Commands

pytestmark = pytest.mark.databases


@pytest.fixture
def jobs(queue: Queue) -> list[int]:
    """Ids of four jobs that wait for a GPU."""
    return [queue.submit("train").id for _ in range(4)]


def waiting(store: Store) -> list[int]:
    return [job.id for job in store.order.waiting("heavy")]


def claimed(store: Store) -> list[int]:
    """All that can begin, in the order in which they do."""
    found = []
    while (job := store.attempts.claim("w", "here", "heavy")) is not None:
        found.append(job.id)
    return found


@pytest.mark.parametrize(
    ("which", "place", "order"),
    [
        (2, "first", [2, 0, 1, 3]),
        (0, "last", [1, 2, 3, 0]),
        (2, "up", [0, 2, 1, 3]),
        (1, "down", [0, 2, 1, 3]),
        (0, "up", [0, 1, 2, 3]),
        (3, "down", [0, 1, 2, 3]),
    ],
)
def test_a_job_that_was_moved_begins_in_its_new_turn(
    store: Store, jobs: list[int], which: int, place: str, order: list[int]
) -> None:
    store.order.move(jobs[which], place)
    later = store.queue.submit("train").id
    wanted = [*(jobs[index] for index in order), later]
    assert waiting(store) == wanted and claimed(store) == wanted


def test_moves_follow_one_another(store: Store, jobs: list[int]) -> None:
    store.order.move(jobs[3], "first")
    store.order.move(jobs[0], "last")
    store.order.move(jobs[0], "up")
    assert waiting(store) == [jobs[3], jobs[1], jobs[0], jobs[2]]


def test_jobs_of_another_lane_keep_their_turn(store: Store, jobs: list[int]) -> None:
    light = [store.queue.submit("map").id for _ in range(2)]
    store.order.move(jobs[3], "first")
    assert [job.id for job in store.order.waiting("light")] == light


def test_a_job_that_is_held_does_not_begin_until_it_is_released(store: Store, jobs: list[int]) -> None:
    store.order.hold(jobs[0])
    assert claimed(store) == jobs[1:]
    store.order.hold(jobs[0], held=False)
    assert claimed(store) == jobs[:1]


def test_a_lane_of_which_everything_is_held_makes_nothing_ready(store: Store) -> None:
    job = store.queue.submit("train")
    assert store.queue.waiting_kinds() == {"heavy": {"train"}}
    store.order.hold(job.id)
    assert store.queue.waiting_kinds() == {}


def test_a_job_begins_after_those_that_it_comes_after_have_succeeded(store: Store) -> None:
    puppets = Puppets()
    worker = Worker(store.home, store=store, executor=puppets)
    first = store.queue.submit("train")
    second = store.queue.submit("map", after=[first.id])
    worker.do_round()
    assert status(store, first, second) == [JobStatus.RUNNING, JobStatus.QUEUED]
    assert store.order.after([first.id, second.id]) == {second.id: [first.id]}
    puppets.end(result={"status": "succeeded", "result": {}}, exit=EXIT)
    worker.do_round()
    assert status(store, first, second) == [JobStatus.SUCCEEDED, JobStatus.RUNNING]
    assert store.order.after([second.id]) == {}


def test_a_job_whose_forerunner_did_not_succeed_is_stopped_with_the_reason(store: Store) -> None:
    first = store.queue.submit("train")
    second = store.queue.submit("map", after=[first.id])
    third = store.queue.submit("map", after=[second.id])
    store.queue.stop(first.id)
    for _ in range(2):  # one after the other
        store.order.end_hopeless()
    assert status(store, second, third) == [JobStatus.STOPPED] * 2
    assert f"after job {first.id}, which ended stopped" in store.queue.get(second.id).progress_text


def status(store: Store, *jobs: Job) -> list[str]:
    return [store.queue.get(job.id).status for job in jobs]


def test_no_job_waits_for_itself(store: Store, jobs: list[int]) -> None:
    first, second, third, _ = jobs
    store.order.put_after(second, [first])
    store.order.put_after(third, [second])
    for other in (first, third):
        with pytest.raises(UserError, match=f"begins after job {first} itself"):
            store.order.put_after(first, [other])
    assert claimed(store)[0] == first


@pytest.mark.parametrize("change", ["move", "hold", "put_after"])
def test_only_a_waiting_job_can_be_changed(store: Store, jobs: list[int], change: str) -> None:
    more = {"move": ["first"], "hold": [], "put_after": [jobs[1:2]]}[change]
    assert store.attempts.claim("w", "here", "heavy") is not None
    with pytest.raises(UserError, match=f"Job {jobs[0]} does not wait"):
        getattr(store.order, change)(jobs[0], *more)
    with pytest.raises(UserError, match="Job 777 does not exist"):
        getattr(store.order, change)(777, *more)


def test_nothing_comes_after_what_has_failed_or_is_not_there(store: Store, jobs: list[int]) -> None:
    store.queue.stop(jobs[0])
    with pytest.raises(UserError, match=r"has ended \(stopped\)"):
        store.order.put_after(jobs[1], [jobs[0]])
    with pytest.raises(UserError, match="Job 777 does not exist"):
        store.queue.submit("map", after=[777])
    assert store.queue.jobs(kind="map") == []


def test_there_is_no_fifth_place(store: Store, jobs: list[int]) -> None:
    with pytest.raises(UserError, match="no place called"):
        store.order.move(jobs[0], "aside")


# By command


@pytest.fixture
def studio(home: Home) -> Iterator[Commands]:
    yield Commands(home.root)
    end_home(home)


def test_commands_list_move_hold_and_cancel(studio: Commands, store: Store, jobs: list[int]) -> None:
    assert [one["job_id"] for one in studio.json("queue", "list")] == jobs
    assert [one["job_id"] for one in studio.json("queue", "move", jobs[3], "first")] == [jobs[3], *jobs[:3]]
    held = {one["job_id"]: one["held"] for one in studio.json("queue", "hold", jobs[0])}
    assert held == {job: job == jobs[0] for job in jobs}
    after = {one["job_id"]: one["after"] for one in studio.json("queue", "after", jobs[1], jobs[2], jobs[3])}
    assert after[jobs[1]] == [jobs[2], jobs[3]]
    said = studio("queue", "list").stdout
    assert "held" in said and f"after {jobs[2]}, {jobs[3]}" in said
    assert jobs[2] not in [one["job_id"] for one in studio.json("queue", "cancel", jobs[2])]
    refused = studio("queue", "move", jobs[2], "first")
    assert refused.returncode == 2 and "does not wait" in refused.stderr
