"""The database: migrations, write-ahead log, several openers at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from hydralora.errors import UserError
from jobs.database_file import VERSIONS
from jobs.home import Home
from jobs.store.database import migrate, open_engine, writing
from jobs.store.store import Store
from jobs.store.tables import Base


@pytest.mark.databases
def test_migrations_lead_to_exactly_the_declared_tables(home: Home) -> None:
    migrate(home.database_url)
    with open_engine(home.database_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


@pytest.mark.databases
def test_migrating_twice_changes_nothing(home: Home) -> None:
    migrate(home.database_url)
    before = sorted(inspect(open_engine(home.database_url)).get_table_names())
    migrate(home.database_url)
    assert sorted(inspect(open_engine(home.database_url)).get_table_names()) == before


def open_store(root: Path, found: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """In a process of its own."""
    try:
        Store(Home(root)).queue.submit("cluster")
        found.put("fine")
    except Exception as error:
        found.put(repr(error))


def test_several_processes_may_open_a_new_database_at_once(home: Home) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    crew = [context.Process(target=open_store, args=(home.root, found)) for _ in range(4)]
    for process in crew:
        process.start()
    assert [found.get(timeout=120) for _ in crew] == ["fine"] * 4
    for process in crew:
        process.join()
    assert len(Store(home).queue.jobs()) == 4


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1)])
def test_every_connection_has_the_settings_it_needs(store: Store, pragma: str, value: object) -> None:
    with store.engine.connect() as connection:
        assert connection.execute(text(f"PRAGMA {pragma}")).scalar() == value


def test_a_migration_that_makes_a_table_anew_keeps_the_rows_that_point_to_it(home: Home) -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    config.attributes["url"] = home.database_url
    command.upgrade(config, "0001")
    rows = (
        "INSERT INTO corpora (id, name, is_sample, created_at) VALUES (1, 'talk', 0, 1.0)",
        "INSERT INTO runs (id, name, corpus_id, config, is_sample, created_at) VALUES (1, 'first', 1, '{}', 0, 1.0)",
        "INSERT INTO runs (id, name, corpus_id, config, is_sample, created_at) VALUES (7, 'gone', 1, '{}', 0, 1.0)",
        "DELETE FROM runs WHERE id = 7",
        "INSERT INTO metrics (run_id, step, numbers) VALUES (1, 1, '{\"loss\": 2.5}')",
        "INSERT INTO analyses (id, run_id, kind, params, created_at) VALUES (1, 1, 'weights', '{}', 1.0)",
    )
    with writing(open_engine(home.database_url)).begin() as connection:
        for row in rows:
            connection.exec_driver_sql(row)
    store = Store(home)
    assert store.runs.get(1).name == "first" and store.analyses.get(1).kind == "weights"
    assert [step.numbers["loss"] for step in store.runs.steps(1)] == [2.5]
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    files = [home.root / "adapter_config.json", home.root / "adapter_model.safetensors"]
    for file in files:
        file.write_text("{}", "utf-8")
    assert store.runs.import_adapter(files).id == 8  # 7 was given once


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_an_id_is_never_given_twice(store: Store, table: str) -> None:
    sql = f"SELECT sql FROM sqlite_master WHERE name = '{table}'"
    counted = Base.metadata.tables[table].dialect_options["sqlite"]["autoincrement"]
    with store.engine.connect() as connection:
        assert ("AUTOINCREMENT" in str(connection.execute(text(sql)).scalar())) == bool(counted)


def test_a_file_that_is_no_database_is_refused_with_a_sentence(home: Home) -> None:
    (home.root / "studio.db").write_bytes(b"this is not a database at all, not even close" * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(home)


def test_a_database_of_a_newer_program_is_refused_with_a_sentence(home: Home) -> None:
    store = Store(home)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="newer"):
        Store(home)
