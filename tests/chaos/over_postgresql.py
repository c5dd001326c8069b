"""The same with the rows in PostgreSQL, whose server dies too and is started again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.home import DATABASE_VARIABLE
from tests.chaos.faults import DATABASE, VICTIMS
from tests.chaos.suite import Suite
from tests.chaos.world import World
from tests.postgresql import Server, binaries


class ServedWorld(World):
    """A home whose database is the only one of a server."""

    server: Server

    def __init__(self, root: Path, environment: dict[str, str] | None = None) -> None:
        self._name = self.server.new()
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv(DATABASE_VARIABLE, self.server.url(self._name))
        super().__init__(root, environment)

    def crash_database(self) -> None:
        self.server.crash()

    def mend_database(self) -> None:
        if not self.server.lives:
            self.server.start()

    def close(self) -> None:
        self.mend_database()
        super().close()
        self.store.engine.dispose()
        self.server.drop(self._name)
        self._patch.undo()


class ServedSuite(Suite):
    """Runs of numbers over a server; what it was told to keep is kept, as it is by default."""

    world_of = ServedWorld
    victims = (*VICTIMS, DATABASE, DATABASE)
    end_seconds = 200.0  # a machine that starts anew waits for the lease of what it did before

    @contextmanager
    def small_disk(self) -> Iterator[None]:
        programs = binaries()
        if programs is None:
            raise SystemExit("There is no PostgreSQL server here: apt install postgresql.")
        ServedWorld.server = Server(programs, options={"synchronous_commit": "on"})
        try:
            with super().small_disk():
                yield
        finally:
            ServedWorld.server.stop()
