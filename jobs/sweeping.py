"""What lies in a home and belongs to nobody any more, and what takes the most room there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hydralora.files import PART, remove, size_on_disk
from jobs.store.publishing import OUT
from jobs.store.status import FINISHED
from jobs.store.store import Store
from jobs.store.tables import AnalysisRow, ClusteringRow, CorpusRow, JobRow, RunRow

HALF = (PART, ".old")  # of what was being written, or has stepped aside for something new
OLD_SECONDS = 3600.0  # nothing is being written for so long without a change
ROWS: dict[str, Any] = {
    "corpora": CorpusRow,
    "clusterings": ClusteringRow,
    "runs": RunRow,
    "analyses": AnalysisRow,
    "jobs": JobRow,
}
DEPTHS = ("*", "*/*", "*/*/*")


@dataclass(frozen=True)
class Leftover:
    """Something that nothing needs: where it lies in the home, and why it does."""

    path: Path
    why: str

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return size_on_disk(self.path)


def find_leftovers(store: Store) -> list[Leftover]:
    """Everything that is half-written and old, and every folder whose row is gone."""
    return [*half_written(store), *_without_rows(store)]


def half_written(store: Store) -> list[Leftover]:
    """What a process that was killed has left behind; nothing while jobs work, which may be writing it."""
    if store.queue.counts()["running"]:
        return []
    found, now = [], time.time()
    for name in (*ROWS, "bases"):
        for pattern in DEPTHS:
            for path in (store.home.root / name).glob(pattern):
                if path.suffix in HALF and abs(now - _changed(path)) > OLD_SECONDS:
                    found.append(Leftover(path, "half-written"))
    return found


def _changed(path: Path) -> float:
    """When it was changed last; now where it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _without_rows(store: Store) -> list[Leftover]:
    found = []
    for name, table in ROWS.items():
        with store.engine.connect() as connection:
            known = set(connection.scalars(select(table.id)))
        for path in (store.home.root / name).iterdir():
            if path.name.isdecimal() and int(path.name) not in known:
                found.append(Leftover(path, "no row of the database names it"))
    return found


def tidy_attempts(store: Store) -> None:
    """Remove what attempts of ended jobs had made to be published: whoever ended the job may have died before."""
    places = {path: path.parent.parent.name for path in (store.home.root / "jobs").glob(f"*/*/{OUT}")}
    ids = {int(name) for name in places.values() if name.isdecimal()}
    if not ids:
        return
    with store.engine.connect() as connection:
        query = select(JobRow.id).where(JobRow.id.in_(ids), JobRow.status.not_in(FINISHED))
        open_ones = set(connection.scalars(query))
    for path, name in places.items():
        if name.isdecimal() and int(name) not in open_ones:
            remove(path)


def sweep(leftovers: list[Leftover]) -> int:
    """Delete leftovers; how many are gone."""
    for one in leftovers:
        remove(one.path)
    return sum(not one.path.exists() for one in leftovers)


def largest(store: Store, most: int = 3) -> list[tuple[str, int]]:
    """What takes the most room: its place in the home, and bytes."""
    root = store.home.root
    places = [path for name in ("runs", "bases", "uploads", "analyses", "corpora") for path in (root / name).iterdir()]
    places += store.home.database_copies
    sizes = sorted(((size_on_disk(path), path) for path in places), reverse=True)
    return [(str(path.relative_to(root)), size) for size, path in sizes[:most] if size]
