"""The address that open tabs ask: nothing while nothing changed, and few reads however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from studio.web.changes import FRESH_SECONDS, MOST_WATCHED, WATCHED_SECONDS, Watch
from tests.studio.stored import Stored


class Clock:
    """Seconds as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Numbers:
    """Numbers of topics, and what was asked for."""

    def __init__(self) -> None:
        self.value, self.reads = "1", list[set[str]]()

    def __call__(self, topics: Iterable[str]) -> dict[str, str]:
        self.reads.append(set(topics))
        return dict.fromkeys(topics, self.value)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is seen at once, so that no test has to wait."""
    monkeypatch.setattr("studio.web.changes.FRESH_SECONDS", -1.0)


def stamp(client: TestClient, of: str, since: str = "") -> str:
    reply = client.get("/ui/changes", params={"of": of, "since": since})
    assert reply.status_code == 200
    return str(reply.json()["stamp"])


def test_nothing_comes_while_nothing_changed(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    for of in ("all", "jobs", f"run-{run.id}", f"run-{run.id},jobs,corpora"):
        reply = client.get("/ui/changes", params={"of": of, "since": stamp(client, of)})
        assert (reply.status_code, reply.content) == (204, b"")
        assert reply.headers["cache-control"] == "no-store"


def test_a_change_gives_another_stamp_to_those_who_look_at_it(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    first, second = stored.run(corpus, "first"), stored.run(corpus, "second")
    known = {of: stamp(client, of) for of in ("all", f"run-{first.id}", f"run-{second.id}", "chats")}
    stored.store.runs.rename(first.id, "another")
    replies = {
        of: client.get("/ui/changes", params={"of": of, "since": since}).status_code for of, since in known.items()
    }
    assert replies == {"all": 200, f"run-{first.id}": 200, f"run-{second.id}": 204, "chats": 204}


@pytest.mark.parametrize("of", ["", "run-0", "nothing", "../etc", "<b>", "run-1,run-x"])
def test_what_is_no_topic_is_refused_in_a_sentence(client: TestClient, of: str) -> None:
    reply = client.get("/ui/changes", params={"of": of})
    assert reply.status_code == 400 and "There is no topic called" in reply.json()["detail"]


@pytest.mark.parametrize("query", [{}, {"of": "x" * 1_000}, {"of": "jobs", "since": "x" * 1_000}])
def test_a_question_out_of_bounds_is_refused_in_a_sentence(client: TestClient, query: dict[str, str]) -> None:
    reply = client.get("/ui/changes", params=query)
    assert reply.status_code == 422 and isinstance(reply.json()["detail"], str)


def test_an_old_or_foreign_stamp_is_answered_with_the_new_one(client: TestClient, stored: Stored) -> None:
    for since in ("", "0", "-", "999999", "<script>", "é"):
        assert stamp(client, "jobs", since) == stamp(client, "jobs")


def test_many_who_ask_cost_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.web.changes.FRESH_SECONDS", FRESH_SECONDS)
    numbers, clock = Numbers(), Clock()

    async def ask() -> None:
        watch = Watch(numbers, clock)
        tabs = [watch.stamp(("run-1", "jobs") if number % 2 else ("all",)) for number in range(150)]
        assert set(await asyncio.gather(*tabs)) == {"1", "1-1"}
        assert len(numbers.reads) <= 2  # the first to ask did not know of the other topic yet
        clock.now += FRESH_SECONDS * 2
        numbers.value, before = "2", len(numbers.reads)
        assert set(await asyncio.gather(*(watch.stamp(("all",)) for _ in range(150)))) == {"2"}
        assert await watch.stamp(("run-1", "jobs")) == "2-2"
        assert len(numbers.reads) == before + 1 and numbers.reads[-1] == {"run-1", "jobs", "all"}

    asyncio.run(ask())


def test_what_nobody_asks_for_any_more_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.web.changes.FRESH_SECONDS", FRESH_SECONDS)
    numbers, clock = Numbers(), Clock()

    async def ask() -> None:
        watch = Watch(numbers, clock)
        for number in range(MOST_WATCHED + 50):
            await watch.stamp((f"run-{number + 1}",))
        assert max(map(len, numbers.reads)) <= MOST_WATCHED + 1
        clock.now += WATCHED_SECONDS * 2
        await watch.stamp(("jobs",))
        assert numbers.reads[-1] == {"jobs"}

    asyncio.run(ask())


def test_a_stranger_learns_nothing(client: TestClient, tmp_path: Path) -> None:
    stranger = TestClient(client.app, base_url=str(client.base_url), raise_server_exceptions=False)
    reply = stranger.get("/ui/changes", params={"of": "all"})
    assert reply.status_code == 401 and "stamp" not in reply.text
