"""Open the database: SQLite with write-ahead log by default, or PostgreSQL by URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from hydralora.errors import UserError, first_line
from hydralora.plain import REPLACEMENT, json_text, one_line
from jobs.database_file import VERSIONS, check_database, known_revisions
from jobs.home import DATABASE_VARIABLE, Home
from jobs.store import postgresql

WAIT_SECONDS = 30  # for another writer's lock; writes take milliseconds
WAY_OUT = "Check that it can be reached and is the studio's own, and that there is space to write."
TOO_LARGE = "A number is larger than the database can hold. Give a smaller one."
NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # in JSON; after an odd number of backslashes it is other text
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={WAIT_SECONDS * 1000}", "foreign_keys=ON")


def open_engine(url: str) -> Engine:
    """An engine on which every transaction begins as it should.

    On SQLite the driver starts no transaction of its own; ours are ``BEGIN`` for reading and
    ``BEGIN IMMEDIATE`` for writing (see ``writing``), so a reader never has to become a writer. On PostgreSQL writers
    take turns by a lock (see ``jobs.store.postgresql``).

    Raises:
        UserError: When the address cannot be read, names another kind of database, or its driver is not installed.
    """
    if not url.startswith("sqlite"):
        engine = _create(url, pool_pre_ping=True, connect_args=postgresql.connect_options(url))
        postgresql.prepare(engine)
        return engine
    engine = _create(url, connect_args={"timeout": WAIT_SECONDS, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        writes = connection.get_execution_options().get(postgresql.WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")

    return engine


def open_home(root: Path | str | None) -> Home:
    """A home; one whose database is a server that cannot be used is refused before anything is made.

    Raises:
        UserError: When the folder or the database cannot be used.
    """
    check_server()
    return Home(root)


def check_server() -> None:
    """Refuse a database server that is named and cannot be used; nothing where the database is a file.

    Raises:
        UserError: With the server's words, and no password.
    """
    url = os.environ.get(DATABASE_VARIABLE, "")
    if not url or url.startswith("sqlite"):
        return
    engine = open_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _create(url: str, **options: Any) -> Engine:
    """An engine whose errors tell no secret: no value of a statement, no password, and trouble in one sentence."""
    _check_address(url)
    try:
        engine = create_engine(url, hide_parameters=True, json_serializer=stored_json, **options)
    except ImportError as error:
        raise UserError(
            f"The database {shown_url(url)} needs the Python package {error.name or 'psycopg[binary]'}. Install it "
            f"(`pip install .[postgres]` brings the one for PostgreSQL), or correct {DATABASE_VARIABLE}."
        ) from error
    except (ArgumentError, ValueError) as error:
        raise _unreadable(url) from error

    @event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        state = postgresql.state_of(context.original_exception)
        if isinstance(context.original_exception, OverflowError) or state == postgresql.TOO_LARGE:
            raise UserError(TOO_LARGE)
        if state == postgresql.FORBIDDEN:
            raise UserError(_forbidden(url, context.original_exception))
        told = context.sqlalchemy_exception
        bug = isinstance(told, (IntegrityError, ProgrammingError))
        if bug and state:  # the lines after the first quote the row
            for error in filter(None, (told, context.original_exception)):
                error.args = (first_line(error),)
        if isinstance(told, DBAPIError) and not bug and not context.is_pre_ping:
            reason = _told(context.original_exception, url)
            raise UserError(f"The database {shown_url(url)} cannot be opened or written: {reason}. {WAY_OUT}")

    return engine


def _check_address(url: str) -> None:
    """UserError where an address cannot be read, or names another kind of database."""
    try:
        kind = make_url(url).get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise _unreadable(url) from error
    if kind not in ("sqlite", "postgresql"):
        raise UserError(
            f"The database {shown_url(url)} is neither SQLite nor PostgreSQL, the two that the studio knows. "
            f"Correct {DATABASE_VARIABLE}."
        )
    if kind == "postgresql" and url.partition("?")[0].count("@") > 1:  # a part of the password would be the host
        raise _unreadable(url)


def _unreadable(url: str) -> UserError:
    return UserError(
        f"The database address {shown_url(url)} cannot be read. Correct {DATABASE_VARIABLE}: "
        "postgresql+psycopg://user:password@host:port/name, with special characters of the password written as %40."
    )


def stored_json(value: Any) -> str:
    """JSON as every database takes it: no NUL, which PostgreSQL keeps and then finds nothing beside."""
    return NUL.sub(rf"\1{REPLACEMENT}", json_text(value))


def _forbidden(url: str, error: BaseException | None) -> str:
    parsed = make_url(url)
    return (
        f"The database {shown_url(url)} does not let its user work there ({_told(error, url)}). Make the user its "
        f'owner: ALTER DATABASE "{parsed.database}" OWNER TO "{parsed.username}".'
    )


def _told(error: BaseException | None, url: str) -> str:
    """What a driver says, in one line without secrets."""
    return one_line(without_secrets(first_line(error or ValueError()), url))


def shown_url(url: str) -> str:
    """The address of a database as a message may show it: without password and options."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"in {DATABASE_VARIABLE}"
    if parsed.drivername.startswith("sqlite"):
        return f"{parsed.drivername}:///{parsed.database or ''}"  # a path as people write it
    if url.count("@") > 1:  # a password with an @ in it is taken for a part of the host
        return f"{parsed.drivername}://…"
    return parsed.set(query={}).render_as_string(hide_password=True)


def without_secrets(text: str, url: str) -> str:
    """``text`` with the password of this address, and the address itself, taken out: drivers may quote both."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return text.replace(url, "…")
    text = text.replace(url, shown_url(url))
    values = [value for found in parsed.query.values() for value in ([found] if isinstance(found, str) else found)]
    for secret in filter(None, (str(parsed.password or ""), *values)):
        for written in (secret, quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(written, "***") if len(written) > 2 else text
    return text


def writing(engine: Engine) -> Engine:
    """The same engine whose transactions take the write lock at once."""
    return engine.execution_options(**{postgresql.WRITES: True})


def reading(engine: Engine) -> Engine:
    """The same engine whose transactions see one moment of the database, as every transaction on SQLite does."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def migrate(url: str) -> None:
    """Bring the database to the newest schema, all the way or not at all; an empty one is created.

    An SQLite file that has rows already is copied beside itself first (see ``jobs.database_file``). Of a database on
    PostgreSQL whoever runs it makes copies; a change that fails leaves it as it was there too.

    Raises:
        UserError: When it is not a database of ours or cannot be written, copied or changed.
    """
    if url.startswith("sqlite") and (file := make_url(url).database):
        check_database(Path(file).absolute(), used=False)
    try:
        if not _is_newest(url):
            _upgrade(url)
    except (SQLAlchemyError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        reason = one_line(without_secrets(first_line(error), url))
        raise UserError(
            f"The database {shown_url(url)} cannot be brought to this version of the studio ({reason}); it is as it "
            "was. Go on with the version before, and report this."
        ) from error


def _upgrade(url: str) -> None:
    from alembic import command  # 12 MB that only a process needs that changes the schema
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent).replace("%", "%%"))
    config.attributes["url"] = url
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UserError(
            f"The database {shown_url(url)} was made by a newer version of the studio. Update the studio, or choose "
            "another folder with --home."
        ) from error


def _is_newest(url: str) -> bool:
    """Whether the database has the newest schema already."""
    newest = max(known_revisions())
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                _check_encoding(url, str(connection.scalar(text("SHOW server_encoding"))))
            if not inspect(connection).has_table("alembic_version"):
                return False
            return connection.scalars(text("SELECT version_num FROM alembic_version")).all() == [newest]
    finally:
        engine.dispose()


def _check_encoding(url: str, encoding: str) -> None:
    """UserError where the database cannot hold every text."""
    if encoding != "UTF8":
        raise UserError(
            f"The database {shown_url(url)} has the encoding {encoding}, which cannot hold every text. Make another "
            "one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0."
        )
