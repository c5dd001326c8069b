"""New homes of the tests begin with a copy of one database that the migrations have made once: they take 0.15 s.

In processes that tests start, and over PostgreSQL, the migrations run as ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from jobs.store import database


def is_empty(file: Path) -> bool:
    """Whether there is nothing in a database yet."""
    if not file.exists():
        return True
    with closing(sqlite3.connect(file)) as opened:
        return not opened.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


@pytest.fixture(autouse=True, scope="session")
def migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The change of an empty database is a copy."""
    made, upgrade = tmp_path_factory.mktemp("made") / "studio.db", database._upgrade

    def copy_or_upgrade(url: str) -> None:
        file = make_url(url).database if url.startswith("sqlite") else None
        if not file or not is_empty(Path(file)):
            return upgrade(url)
        if not made.exists():
            upgrade(f"sqlite:///{made}")
        with closing(sqlite3.connect(made)) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_upgrade", copy_or_upgrade)
        yield
