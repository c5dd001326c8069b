"""The lease of an attempt, held by its own process and told by the database's clock.

The worker that claims a job gives the attempt a token. The attempt's first process renews the lease by it, whatever
becomes of the worker, and ends everything of the attempt once the token is not the job's any more. The work itself
knows no database: this is the only thing that the process around it says there, in one statement.

Where the database cannot be reached, a home in one file belongs to this machine alone, and the attempt goes on. With a
database that others reach too, somebody may take the job up as soon as the lease is over, so the attempt ends before.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.database_file import NAME, NOW
from jobs.runner.ownership import ENDED

log = logging.getLogger(__name__)
RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.2  # between two looks at how long the lease still lasts, which nothing delays
SPARE_SECONDS = 15.0  # before its end, to save a checkpoint and go
BUSY_SECONDS = 5.0  # for another writer's lock, or a database that does not answer
RENEWAL = (
    "UPDATE jobs SET lease_until = {now} + :seconds "
    "WHERE id = :job AND attempt = :attempt AND token = :token AND status IN ('running', 'stopping')"
)


class Held(Enum):
    """What the database says of a lease."""

    OURS = "ours"
    LOST = "lost"  # the job has ended, or somebody else works on it
    UNKNOWN = "unknown"  # it cannot be asked now


class Lease:
    """The lease of the attempt in ``folder``, as its ``spec.json`` names it.

    Args:
        database: URL of a database that is not the home's own file; empty for that.
    """

    def __init__(self, folder: Path, database: str = "") -> None:
        spec = json.loads((folder / "spec.json").read_text("utf-8"))
        names = ("job", "attempt", "token")
        self.folder, self._database, self._file = folder, database, Path(spec["home"]) / NAME
        self._values = {**{name: spec.get(name) for name in names}, "seconds": spec.get("lease_seconds", 0.0)}
        self.is_shared = bool(database) and not database.startswith("sqlite")
        self._renewed_at = time.monotonic()

    def renew(self) -> Held:
        """Renew it once; ours again, lost, or not known."""
        if (self.folder / ENDED).exists():
            return Held.LOST
        if self._values["token"] is None:  # begun by a worker of an earlier version
            return Held.UNKNOWN
        asked_at = time.monotonic()  # the database counts from a later moment
        try:
            held = self._run_shared() if self._database else self._run_file()
        except Exception as error:  # whatever a driver raises: no answer
            log.warning("The lease could not be renewed: %s", type(error).__name__)
            return Held.UNKNOWN
        if held:
            self._renewed_at = asked_at
        return Held.OURS if held else Held.LOST

    @property
    def seconds_left(self) -> float:
        """For how long nobody else can have taken the job; without an end where this machine alone can."""
        return self._renewed_at + self._values["seconds"] - time.monotonic() if self.is_shared else float("inf")

    def _run_file(self) -> bool:
        address = f"{self._file.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection, connection:
            connection.execute("PRAGMA wal_autocheckpoint=0")  # limits of the attempt hold for us too
            return connection.execute(RENEWAL.format(now=NOW), self._values).rowcount == 1

    def _run_shared(self) -> bool:
        from sqlalchemy import text

        from jobs.store.clock import POSTGRESQL

        now = NOW if self._engine.dialect.name == "sqlite" else POSTGRESQL
        with self._engine.begin() as connection:
            return connection.execute(text(RENEWAL.format(now=now)), self._values).rowcount == 1

    @cached_property
    def _engine(self) -> Any:
        from sqlalchemy import NullPool, create_engine

        from jobs.store.postgresql import connect_options

        options = connect_options(self._database, connect_timeout=int(BUSY_SECONDS))
        return create_engine(self._database, poolclass=NullPool, hide_parameters=True, connect_args=options)


class Keeper:
    """Renews a lease while the work goes on.

    Args:
        interrupt: Asks the work to save its state and end, once, where the lease runs out.
        end: Ends all of the attempt at once.
    """

    def __init__(self, lease: Lease, interrupt: Callable[[], Any], end: Callable[[], Any]) -> None:
        self._lease, self._interrupt, self._end = lease, interrupt, end
        self._over, self._lost = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        """In a thread of its own: a database behind a silent network may keep it waiting for longer than a lease."""
        while not self._over.wait(RENEW_SECONDS):
            if self._lease.renew() == Held.LOST:
                self._lost.set()
                return

    def _watch(self) -> None:
        is_asked = False
        while not self._over.is_set():
            is_lost = self._lost.wait(LOOK_SECONDS)
            if self._over.is_set():
                return
            if is_lost or self._lease.seconds_left < RENEW_SECONDS:
                log.warning("This attempt has lost its lease and ends.")
                self._end()
                return
            if self._lease.seconds_left < SPARE_SECONDS and not is_asked:
                is_asked = True
                log.warning("The database cannot be reached, and the lease runs out: the attempt saves its state.")
                self._interrupt()

    def stop(self) -> None:
        """The work has ended."""
        self._over.set()
        self._watcher.join()
