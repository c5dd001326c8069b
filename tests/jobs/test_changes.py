"""What changed: each kind of write raises the numbers of exactly its topics, and what nobody looks at raises none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from hydralora.config import parse_config
from hydralora.errors import UserError
from jobs.home import Home
from jobs.store.changes import LISTS, MOST_TOPICS, checked_topics
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.test_old_home import unpack

ONES = [f"{noun}-{number}" for noun in ("corpus", "run", "chat") for number in (1, 2)]
CONFIG = {"adapter": {"num_experts": 2}, "train": {"max_steps": 1}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A home with corpus 1, run 1 and chat 1, where nothing is going on."""
    return Store(Home(unpack("f3124b5", tmp_path)))


@contextmanager
def changing(store: Store, *expected: str) -> Iterator[None]:
    """Exactly these topics change within the block."""
    before = store.changes.numbers([*LISTS, *ONES])
    yield
    after = store.changes.numbers([*LISTS, *ONES])
    assert {topic for topic in after if after[topic] != before[topic]} == set(expected)


def held(store: Store, kind: str, lane: str, **links: int) -> Job:
    """A job that a worker has begun."""
    store.queue.submit(kind, **links)
    job = store.attempts.claim("w", "here", lane)
    assert job is not None
    return job


OF_RUN = ("all", "jobs", "runs", "run-1")
OF_CORPUS = ("all", "jobs", "corpora", "corpus-1")


def test_corpora_and_clusterings(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("prompt,answer\na,b\n")
    with changing(store, "all", "jobs", "corpora", "corpus-2"):
        store.corpora.add("more", [file])
    with changing(store, "all", "corpora", "corpus-2"):
        store.corpora.rename(2, "less")
    with changing(store, *OF_CORPUS):
        store.clusterings.add(1, 2)
    with changing(store, "all", "jobs", "corpora", "corpus-2"):
        store.queue.stop(store.corpora.get(2).job.id)  # type: ignore[union-attr]
    with changing(store, "all", "corpora", "corpus-2"):
        store.corpora.delete(2)


def test_runs_and_analyses(store: Store) -> None:
    with changing(store, "all", "jobs", "runs", "run-2"):
        store.runs.start(1, CONFIG)
    with changing(store, "all", "runs", "run-1"):
        store.runs.rename(1, "another name")
    with changing(store, *OF_RUN):
        store.analyses.ask(1, "map", {"which": "A", "layout": "pca"})
    with changing(store, "all", "jobs", "runs", "run-2"):
        store.runs.stop(2)
    with changing(store, "all", "runs", "run-2"):
        store.runs.delete(2)


def test_jobs_as_they_go_on(store: Store) -> None:
    with changing(store, "all", "jobs"):
        store.queue.submit("map")
    with changing(store, "all", "jobs"):
        job = store.attempts.claim("w", "here", "light")
    assert job is not None
    with changing(store, "all", "jobs"):
        store.attempts.renew(job, progress=0.5, progress_text="Half")
    with changing(store, "all", "jobs"):
        store.queue.stop(job.id)
    with changing(store, "all", "jobs"):
        store.attempts.finish(job, JobStatus.STOPPED, time.time())


def test_steps_change_their_run_alone(store: Store) -> None:
    job = held(store, "train", "heavy", run_id=1)
    with changing(store, "run-1"):
        store.runs.add_steps(job, [{"run_id": 1, "step": 9, "values": {"loss": 1.0}}], 20)


def test_what_a_kind_writes_changes_what_it_belongs_to(store: Store) -> None:
    store.clusterings.add(1, 2)
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and job.kind == "cluster"
    with changing(store, *OF_CORPUS):
        store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result={"k": 2})


def test_chats_change_apart_from_the_rest(store: Store) -> None:
    with changing(store, "chats", "chat-2"):
        store.chats.create()
    with changing(store, "chats", "chat-2"):  # the first question names it
        question = store.chats.ask(2, "And now?")
    with changing(store, "chat-2"):
        answer = store.chats.begin_answer(question, 1, {})
    with changing(store, "chat-2"):
        store.chats.write_answer(answer.id, text="Now")
    with changing(store, "chat-2"):
        store.chats.cut_from(question.id)
    with changing(store, "chats", "chat-2"):
        store.chats.delete(2)


def test_settings_change(store: Store) -> None:
    with changing(store, "all", "settings"):
        store.settings.set("tour", {"on": True})
    with changing(store):
        store.settings.set("tour", {"on": True})


def test_timing_changes_what_waits_for_a_speed(store: Store) -> None:
    config = parse_config(CONFIG)
    with changing(store, "all", "jobs", "speeds"):
        store.speeds.ask(1, config)
    job = store.attempts.claim("w", "here", "heavy")
    assert job is not None and job.kind == "speed"
    with changing(store, "all", "jobs", "speeds", "settings"):
        store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result={"step": 1.0})


def test_a_lease_that_is_renewed_without_news_changes_nothing(store: Store) -> None:
    job = held(store, "train", "heavy", run_id=1)
    store.attempts.renew(job, progress=0.5, progress_text="Half")
    with changing(store):
        assert store.attempts.renew(job, progress=0.5, progress_text="Half")
        assert store.attempts.renew(job, process={"pid": 1})
        assert store.attempts.adopt(job, "another") is not None


def test_a_worker_changes_something_when_it_comes_and_goes_and_not_by_a_sign_of_life(store: Store) -> None:
    with changing(store, "all", "workers"):
        store.workers.sign_in("w", "here", {})
    with changing(store):
        store.workers.sign_in("w", "here", {})
    with changing(store, "all", "workers"):
        store.workers.sign_out("w")


def test_a_worker_that_is_silent_for_long_has_gone(store: Store) -> None:
    store.workers.sign_in("w", "here", {})
    with changing(store, "all", "workers"), store.engine.begin() as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at - 60"))


@pytest.mark.parametrize(
    "refused",
    [
        lambda store: store.runs.rename(1, " "),
        lambda store: store.corpora.delete(1),
        lambda store: store.chats.ask(9, "Anybody?"),
        lambda store: store.queue.submit("nothing of this name"),
    ],
)
def test_a_write_that_is_refused_changes_nothing(store: Store, refused: Callable[[Store], object]) -> None:
    with changing(store), pytest.raises(UserError):
        refused(store)


def test_a_worker_that_lost_its_job_changes_nothing(store: Store) -> None:
    job = held(store, "train", "heavy", run_id=1)
    store.attempts.adopt(job, "another")
    with changing(store):
        assert not store.attempts.write(job, progress=0.9)
        assert not store.attempts.finish(job, JobStatus.FAILED, time.time())
        store.runs.add_steps(job, [{"run_id": 1, "step": 9, "values": {"loss": 1.0}}], 20)


def test_every_write_counts_and_none_is_lost_among_many_writers(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def numbers() -> int:
        return int(store.changes.numbers(["settings"])["settings"])

    before = numbers()
    with ThreadPoolExecutor(8) as crew:
        list(crew.map(lambda number: store.settings.set(f"key {number}", {}), range(40)))
    assert numbers() == before + 40


@pytest.mark.parametrize(
    "topics",
    ["", "everything", "ALL", " jobs", "run-", "run-0", "run--1", "run-1.5", "run-1,", "chat-1\n", "corpus-٣"],
)
def test_what_is_no_topic_is_refused_with_those_there_are(topics: str) -> None:
    with pytest.raises(UserError, match=r"There is no topic called.*Choose from all, corpora"):
        checked_topics(topics)


@pytest.mark.parametrize("topic", ["run-9223372036854775808", "run-1;DROP TABLE changes"])
def test_an_id_that_no_row_can_have_is_refused(topic: str) -> None:
    with pytest.raises(UserError, match="There is no topic called"):
        checked_topics(topic)


def test_too_many_topics_are_refused() -> None:
    assert len(checked_topics(",".join(["jobs"] * MOST_TOPICS))) == MOST_TOPICS
    with pytest.raises(UserError, match=f"9 topics are asked for; {MOST_TOPICS} are the most"):
        checked_topics(",".join(["jobs"] * 9))
