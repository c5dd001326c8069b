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
from pathlib import Path
from typing import Any

from jobs.database_file import NAME, NOW
from jobs.runner.ownership import ENDED

log = logging.getLogger(__name__)
RENEW_SECONDS = 2.0
SPARE_SECONDS = 15.0  # before its end, to save a checkpoint and go
BUSY_SECONDS = 5.0  # for another writer's lock
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
        try:
            held = self._run_shared() if self._database else self._run_file()
        except Exception as error:  # whatever a driver raises: no answer
            log.warning("The lease could not be renewed: %s", type(error).__name__)
            return Held.UNKNOWN
        if held:
            self._renewed_at = time.monotonic()
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
        from sqlalchemy import NullPool, create_engine, text

        from jobs.store.clock import POSTGRESQL

        engine = create_engine(self._database, poolclass=NullPool, hide_parameters=True)
        now = NOW if engine.dialect.name == "sqlite" else POSTGRESQL
        with engine.begin() as connection:
            return connection.execute(text(RENEWAL.format(now=now)), self._values).rowcount == 1


class Keeper:
    """Renews a lease while the work goes on.

    Args:
        interrupt: Asks the work to save its state and end, once, where the lease runs out.
        end: Ends all of the attempt at once.
    """

    def __init__(self, lease: Lease, interrupt: Callable[[], Any], end: Callable[[], Any]) -> None:
        self._lease, self._interrupt, self._end = lease, interrupt, end
        self._over, self._asked = threading.Event(), False
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            held = self._lease.renew()
            if self._over.is_set():
                return
            if held == Held.LOST or self._lease.seconds_left < RENEW_SECONDS:
                log.warning("This attempt has lost its lease and ends.")
                self._end()
                return
            if self._lease.seconds_left < SPARE_SECONDS and not self._asked:
                self._asked = True
                log.warning("The database cannot be reached, and the lease runs out: the attempt saves its state.")
                self._interrupt()

    def stop(self) -> None:
        """The work has ended."""
        self._over.set()
        self._thread.join()
