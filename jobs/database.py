"""Open the database: SQLite with write-ahead log by default, or PostgreSQL by URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from hydralora.errors import UserError

WAIT_SECONDS = 30  # for another writer's lock; writes take milliseconds
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={WAIT_SECONDS * 1000}", "foreign_keys=ON")


def open_engine(url: str) -> Engine:
    """An engine on which every transaction begins as it should.

    On SQLite the driver starts no transaction of its own; ours are ``BEGIN`` for reading and
    ``BEGIN IMMEDIATE`` for writing (see ``writing``), so a reader never has to become a writer.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": WAIT_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def writing(engine: Engine) -> Engine:
    """The same engine whose transactions take the write lock at once."""
    return engine.execution_options(sqlite_begin="IMMEDIATE")


def migrate(url: str) -> None:
    """Bring the database to the newest schema; an empty one is created.

    Raises:
        UserError: When the file is not a database of ours or cannot be written.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UserError(
            f"The database {url} was made by a newer version of the studio. Update the studio, or choose "
            "another folder with --home."
        ) from error
    except (OperationalError, DatabaseError) as error:
        raise UserError(
            f"The database {url} cannot be opened: {str(error.orig).splitlines()[0]}. "
            "Check that its folder is writable and the file is the studio's own."
        ) from error
