"""The store over PostgreSQL: what only happens there. What holds for both databases has the mark ``databases``."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hydralora.errors import UserError
from jobs.database_file import known_revisions
from jobs.home import DATABASE_VARIABLE, Home
from jobs.runner.lease import Held, Lease
from jobs.runner.running import write_spec
from jobs.runner.worker import Worker
from jobs.store.attempts import Attempts
from jobs.store.database import migrate, open_engine
from jobs.store.postgresql import SESSION
from jobs.store.queue import Queue
from jobs.store.store import Store
from jobs.store.tables import ChangeRow, JobRow, RunRow
from studio.doctor import _clock
from tests.jobs.conftest import wait_for
from tests.jobs.test_database import test_several_processes_may_open_a_new_database_at_once as open_at_once
from tests.jobs.test_executors import Puppets
from tests.postgresql import Server

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


# Connections


@pytest.mark.parametrize("name", sorted(SESSION))
def test_each_connection_has_its_settings_also_after_a_rollback(store: Store, name: str) -> None:
    with store.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.rollback()
        assert connection.scalar(text(f"SHOW {name}")) in (SESSION[name], "30s", "2min", "10000")


def test_an_address_says_more_than_the_settings_that_we_give(postgresql: Server, store: Store) -> None:
    engine = open_engine(postgresql.url(query={"application_name": "mine"}))
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "mine"
    engine.dispose()


def test_a_home_is_opened_by_the_socket_of_the_server_too(
    postgresql: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgresql.new()
    monkeypatch.setenv(DATABASE_VARIABLE, postgresql.socket_url(name))
    assert Store(home).queue.submit("map").id == 1
    postgresql.drop(name)


@pytest.mark.long
def test_several_processes_may_open_an_empty_database_at_once(
    postgresql: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgresql.new()
    monkeypatch.setenv(DATABASE_VARIABLE, postgresql.url(name))
    open_at_once(home)
    postgresql.drop(name)


def test_a_connection_that_was_cut_is_told_and_the_next_one_works(postgresql: Server, store: Store) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> {}"
    with pytest.raises(UserError, match=r"cannot be opened or written: .*Check that it can be reached"):
        with store.queue._rows.writing() as session:
            mine = session.scalar(text("SELECT pg_backend_pid()"))
            with store.engine.connect() as other:
                other.execute(text(cut.format(other.scalar(text("SELECT pg_backend_pid()")))))
            assert mine
            session.scalar(text("SELECT 1"))
    assert store.queue.submit("map").id


# Writers


def test_writers_take_turns_and_readers_do_not_wait(store: Store) -> None:
    order: list[str] = []
    inside, over = threading.Event(), threading.Event()

    def first() -> None:
        with store.settings._rows.writing() as session:
            session.scalar(text("SELECT 1"))
            inside.set()
            over.wait(20)
            order.append("first")

    def second() -> None:
        inside.wait(20)
        store.settings.set("second", {})
        order.append("second")

    with ThreadPoolExecutor(2) as crew:
        done = [crew.submit(first), crew.submit(second)]
        inside.wait(20)
        assert store.queue.counts() == {"queued": 0, "running": 0}
        wait_for(lambda: _waiters(store) == 1, 20)
        over.set()
        assert [one.result(20) for one in done] == [None, None] and order == ["first", "second"]


def _waiters(store: Store) -> int:
    with store.engine.connect() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(connection.scalar(text(query)) or 0)


def test_a_lease_is_renewed_while_somebody_writes(home: Home, store: Store) -> None:
    store.queue.submit("map")
    job = store.attempts.claim("w", "here", "light")
    assert job is not None
    lease = Lease(write_spec(home, job, None), home.database_url)
    with store.settings._rows.writing() as session:
        session.add(ChangeRow(topic="of somebody else", number=1))
        session.flush()
        assert lease.renew() == Held.OURS


@pytest.mark.parametrize(
    "look_and_write",
    [
        lambda store, number: store.settings.set("the same", {"number": number}),
        lambda store, number: store.run_list.tag([1], add=["the same"]),
        lambda store, number: store.queue.only("serve"),
        lambda store, number: store.analyses.ask(1, "weights"),
    ],
    ids=["a setting", "a tag", "the model server", "a question"],
)
def test_of_many_who_look_and_write_at_once_none_fails(
    store: Store, look_and_write: Callable[[Store, int], Any], tmp_path: Any
) -> None:
    from tests.jobs.test_store import finished_run

    assert finished_run(store, tmp_path) == 1
    with ThreadPoolExecutor(8) as crew:
        list(crew.map(lambda number: look_and_write(store, number), range(24)))


def test_every_write_is_told_to_who_looks_at_its_topics(store: Store) -> None:
    topics = ("all", "jobs", "runs", "run-1", "settings")
    before = store.changes.numbers(topics)
    with ThreadPoolExecutor(8) as crew:
        list(crew.map(lambda number: store.queue.submit("train", run_id=1), range(20)))
    after = store.changes.numbers(topics)
    assert {topic: int(after[topic].partition("w")[0]) for topic in topics} == {
        "all": 20,
        "jobs": 20,
        "runs": 20,
        "run-1": 20,
        "settings": 0,
    }
    assert before["settings"] == after["settings"]


def test_one_worker_of_all_does_what_is_done_once(store: Store, home: Home) -> None:
    other = Store(home)
    with store.leading() as one, other.leading() as two:
        assert (one, two) == (True, False)
    with other.leading() as two:
        assert two


# Bad databases


@pytest.fixture
def make_database(postgresql: Server) -> Iterator[Callable[..., str]]:
    """Makes a database, with more words of its statement; gives its name."""
    made: list[str] = []

    def make(more: str = "") -> str:
        made.append(postgresql.new(more=more))
        return made[-1]

    yield make
    for name in made:
        postgresql.drop(name)


def test_a_database_that_cannot_hold_every_text_is_refused_and_nothing_made_in_it(
    postgresql: Server, home: Home, make_database: Callable[..., str]
) -> None:
    name = make_database("ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(UserError, match=r"has the encoding SQL_ASCII.*ENCODING 'UTF8' TEMPLATE template0"):
        migrate(postgresql.url(name))
    with open_engine(postgresql.url(name)).connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")) == 0


def test_a_user_that_may_make_no_tables_is_told_what_to_do(
    postgresql: Server, home: Home, make_database: Callable[..., str]
) -> None:
    name = make_database()
    postgresql.run(f"CREATE ROLE \"of {name}\" LOGIN PASSWORD 'plain'")
    with pytest.raises(UserError, match=rf'ALTER DATABASE "{name}" OWNER TO "of {name}"'):
        migrate(postgresql.url(name, username=f"of {name}", password="plain"))
    postgresql.run(f'DROP ROLE "of {name}"')


def test_a_database_of_a_newer_program_is_refused(store: Store, home: Home) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="newer version of the studio"):
        Store(home)


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    postgresql: Server, home: Home, make_database: Callable[..., str]
) -> None:
    from tests.jobs.test_migrations import upgrade

    url = postgresql.url(make_database())
    upgrade(url, "0003")
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE changes (topic TEXT)"))  # which a later migration makes
    with pytest.raises(UserError, match=r"cannot be brought to this version.*it is as it was"):
        migrate(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0003" < max(known_revisions())
        assert connection.scalar(text("SELECT to_regclass('steps') IS NULL AND to_regclass('metrics') IS NOT NULL"))
    engine.dispose()


def test_an_error_of_the_database_quotes_no_row(store: Store) -> None:
    with pytest.raises(IntegrityError) as error, Session(store.engine) as session, session.begin():
        session.add(JobRow(kind="map", lane="light", status="asleep", progress_text="private"))
    said = "".join(traceback.format_exception(error.value))
    assert "ck_jobs_status" in said and "private" not in said and "Failing row" not in said


# What is kept


def test_numbers_beyond_the_database_are_refused_in_a_sentence(store: Store) -> None:
    with pytest.raises(UserError, match="larger than the database can hold"):
        with store.queue._rows.writing() as session:
            session.add(RunRow(id=2**40, name="far", config={}))


def test_no_text_in_a_setting_of_one_run_hides_the_others(store: Store) -> None:
    odd = {"method": "lora", "base": "starter", "note": "a\0b \\u0000 \ud800", "train": {"seed": None, "lr": 1e400}}
    with Session(store.engine) as session, session.begin():
        session.add(RunRow(name="odd\0", config=odd, summary={"held_out_loss": float("nan")}))
        session.add(RunRow(name="plain", config={"method": "lora", "base": "starter", "adapter": {"r": "8"}}))
    from jobs.store.run_list import SORTS, RunQuery

    for sort in SORTS:
        page = store.run_list.page(RunQuery(text="starter", sort=sort))
        assert {line.name for line in page.lines} == {"odd\ufffd", "plain"}
    kept = next(line.stored_config for line in page.lines if line.name != "plain")
    assert kept["note"] == "a\ufffdb \\u0000 \ufffd"


def test_leases_are_told_by_the_clock_of_the_server(
    queue: Queue, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.submit("map")
    job = attempts.claim("w", "here", "light")
    assert job is not None and abs(job.lease_until - time.time() - 60) < 5
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this machine's clock is a century ahead
    assert queue.silent_since(job) is None and attempts.orphans("w", lambda job: False) == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(300.0, "300 s ahead of"), (-300.0, "300 s behind"), (2.0, "2.0 s from")]
)
def test_a_machine_whose_clock_is_minutes_off_is_told_and_no_lease_suffers(
    store: Store,
    queue: Queue,
    attempts: Attempts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    words: str,
) -> None:
    real, far = time.time, abs(seconds) > 60
    queue.submit("train")
    job = attempts.claim("w", "here", "heavy")
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    found = _clock(store)
    assert found.ok != far and words in found.found and ("NTP" in found.way_out) == far
    Worker(store.home, store=store, executor=Puppets()).do_round()
    assert ("set their clocks by NTP" in caplog.text) == far
    assert job is not None and queue.get(job.id).attempt == 1 and queue.silent_since(queue.get(job.id)) is None
