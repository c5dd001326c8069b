"""What lies in a home and belongs to nobody is found, named and swept; what is anybody's stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jobs.store.store import Store
from jobs.sweeping import find_leftovers, half_written, largest, sweep, tidy_attempts
from studio.doctor import _leftovers
from tests.jobs.test_worker import make_run

pytestmark = pytest.mark.databases


def put(path: Path, age: float = 7200.0, size: int = 10) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_folder_without_a_row_is_named_and_one_with_a_row_is_not(store: Store) -> None:
    put(store.home.run(make_run(store)))
    lost, other = put(store.home.run(77)), put(store.home.root / "runs" / "notes of mine")
    assert [one.path for one in find_leftovers(store)] == [lost]
    said = _leftovers(store)
    assert not said.ok and "runs/77" in said.found and "--sweep" in said.way_out
    assert sweep(find_leftovers(store)) == 1 and other.exists() and _leftovers(store).ok


def test_what_was_left_half_written_is_found_once_nobody_can_be_writing_it(store: Store) -> None:
    run = store.home.run(make_run(store))
    old, fresh = put(run / "adapter.part"), put(run / "checkpoints" / "checkpoint-3.part", age=5.0)
    assert [one.path for one in half_written(store)] == [old]
    store.queue.submit("map")
    assert store.attempts.claim("w", "here", "light") is not None
    assert half_written(store) == [] and fresh.exists()


def test_the_largest_is_named_first(store: Store) -> None:
    put(store.home.run(1), size=100)
    put(store.home.root / "uploads" / "u", size=3_000)
    assert largest(store, 2) == [("uploads/u", 3_000), ("runs/1", 100)]


def test_what_an_ended_job_had_made_is_removed_where_nobody_else_has_done_it(store: Store) -> None:
    ended, waiting = store.queue.submit("map"), store.queue.submit("map")
    store.queue.stop(ended.id)
    mine, theirs = (put(store.home.job(job.id, 1) / "out") for job in (ended, waiting))
    tidy_attempts(store)
    assert not mine.exists() and theirs.exists()
