"""What PostgreSQL is told, so that it keeps the store's promises as a file does; a network may fall silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

WAIT_SECONDS = 30  # for another writer, as with a file
WRITERS = 7_093_172  # key of the lock that a writing transaction holds: a number that nobody else has in this database
LEADER = WRITERS + 1  # of the lock of who does what one worker does for all
WRITES = "studio_writes"  # execution option of an engine whose transactions write
FORBIDDEN, TOO_LARGE = "42501", "22003"  # SQLSTATE: insufficient privilege; numeric value out of range
DRIVERS = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")  # which know libpq's options
# Whoever hears nothing of the other side for about ten seconds takes the connection for broken: without these a
# partition is noticed after a quarter of an hour, and a transaction that it cut would keep its locks for two.
CLIENT: dict[str, Any] = {
    "connect_timeout": 10,  # seconds, as the two below
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
    "application_name": "hydra-studio",
    "client_encoding": "utf8",  # whatever the database has, which is looked at then
}
SESSION = {
    "lock_timeout": f"{WAIT_SECONDS}s",
    "idle_in_transaction_session_timeout": "120s",  # of a process that was frozen in a transaction
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}


def connect_options(url: str, **more: Any) -> dict[str, Any]:
    """Options of a connection; what the address itself says stays."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return {}
    if parsed.drivername not in DRIVERS:
        return {}
    return {name: value for name, value in (CLIENT | more).items() if name not in parsed.query}


def prepare(engine: Engine) -> None:
    """Give each connection its settings, and let writers take turns.

    The store looks and then writes within one transaction, which a file lets one process do at a time. The lock makes
    it so here too: without it two who look at once would both find nothing, and transactions could wait in a circle.
    Renewals of leases are one statement each and go past it.
    """

    @event.listens_for(engine, "connect")
    def _set(connection: Any, _record: Any) -> None:
        values = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in SESSION.items())
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {values}")
        connection.commit()  # else the settings go with the transaction

    @event.listens_for(engine, "begin")
    def _take_turn(connection: Any) -> None:
        if connection.get_execution_options().get(WRITES):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


@contextmanager
def leading(engine: Engine) -> Iterator[bool]:
    """Whether we are the only one who does what one of all workers does, until the block ends."""
    with engine.begin() as connection:
        yield bool(connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({LEADER})")))


def state_of(error: BaseException | None) -> str:
    """SQLSTATE of an error of the driver; empty where it has none."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")
