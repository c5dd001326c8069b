"""Schemas: each earlier one, with rows of its own, becomes today's with every row in its place, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Boolean, Connection, LargeBinary, MetaData, String, func, insert, select
from sqlalchemy.orm import Session
from sqlalchemy.types import JSON, Float

from jobs.database_file import VERSIONS, known_revisions
from jobs.home import DATABASE_VARIABLE, Home
from jobs.store.database import open_engine, writing
from jobs.store.store import Store
from jobs.store.tables import Base, RunRow
from tests.postgresql import Server

REVISIONS = sorted(known_revisions())
VALUES: dict[str, Any] = {
    "status": "succeeded",
    "lane": "light",
    "kind": "weights",
    "before": None,
    "after": "queued",
    "single": None,
    "shares": b"\x00\x80",
    "hits": b"\x80",
    "numbers": {"loss": 1.5, "entropy": 0.5},
    "gates": {"layer": [0.25, 0.75]},
    "layers": [["layer", 2]],
}


def upgrade(url: str, revision: str) -> None:
    """Bring a database to a schema, as its own version of the studio left it."""
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    config.attributes["url"] = url
    command.upgrade(config, revision)


def fill(connection: Connection, number: int) -> dict[str, int]:
    """Put a row into every table that there is; gives the rows of each by now."""
    schema = MetaData()
    schema.reflect(connection)
    ids: dict[str, int] = {}
    counts = {}
    for table in schema.sorted_tables:
        if table.name == "alembic_version":
            continue
        values = {}
        for column in table.columns:
            (of,) = [key.column.table.name for key in column.foreign_keys] or [""]
            if of:
                values[column.name] = ids[of]
            elif column.name != "id":
                values[column.name] = _value(column, number)
        found = connection.execute(insert(table).values(values))
        if "id" in table.columns:
            ids[table.name] = found.inserted_primary_key[0]  # type: ignore[index]
        counts[table.name] = connection.scalar(select(func.count()).select_from(table)) or 0
    return counts


def _value(column: Any, number: int) -> Any:
    if column.name in VALUES:
        return VALUES[column.name]
    if isinstance(column.type, JSON):
        return {"version": number}
    if isinstance(column.type, LargeBinary):
        return b"x"
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, String):
        return f"{column.name} {number}"
    return float(number) if isinstance(column.type, Float) else number


def differences(store: Store) -> list[Any]:
    """What the schema of a database and that of the program do not have in common."""
    with store.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


@pytest.fixture
def bare(home: Home, database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose database is empty."""
    if database == "sqlite":
        yield home
        return
    server: Server = request.getfixturevalue("postgresql")
    name = server.new()
    monkeypatch.setenv(DATABASE_VARIABLE, server.url(name))
    yield home
    server.drop(name)


@pytest.mark.databases
def test_rows_of_every_earlier_schema_come_through_all_that_follow(bare: Home) -> None:
    counts: dict[str, int] = {}
    for number, revision in enumerate(REVISIONS, 1):
        upgrade(bare.database_url, revision)
        with writing(open_engine(bare.database_url)).begin() as connection:
            counts = fill(connection, number)
    store = Store(bare)
    assert differences(store) == []
    of_all = {name: len(REVISIONS) for name in ("jobs", "corpora", "clusterings", "runs", "analyses", "messages")}
    assert {name: counts[name] for name in of_all} == of_all
    with Session(store.engine) as session:
        runs = list(session.scalars(select(RunRow.id)))
    steps = [step for run in runs for step in store.runs.steps(run)]
    early = [step for step in steps if "entropy" in step.numbers]  # of a schema without columns for them
    assert len(early) == 4 and {step.numbers["loss"] for step in early} == {1.5}
    assert all((step.gates or {})["layer"] == pytest.approx([0.25, 0.75], abs=1e-4) for step in early)
    assert store.queue.submit("map").id == len(REVISIONS) + 1


@pytest.mark.long
@pytest.mark.databases
@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_database_of_an_earlier_schema_is_brought_to_ours(bare: Home, revision: str) -> None:
    upgrade(bare.database_url, revision)
    with writing(open_engine(bare.database_url)).begin() as connection:
        counts = fill(connection, 1)
    store = Store(bare)
    assert differences(store) == []
    counts["steps"] = counts.pop("metrics", 1) if "steps" not in counts else counts["steps"]
    tables = Base.metadata.tables
    with store.engine.connect() as connection:
        found = {name: connection.scalar(select(func.count()).select_from(tables[name])) for name in counts}
    assert found == counts
    assert store.queue.submit("map").id == 2
