"""On a full disk nothing is lost or called otherwise than it is: numbers and results wait for room."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.runner import room
from jobs.runner.child import Job
from jobs.runner.room import Lines, is_full, write_when_there_is_room
from jobs.runner.worker import Worker
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.conftest import wait_for
from tests.jobs.test_executors import EXIT, Puppets


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this account may mount nothing")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def test_lines_wait_for_room_and_come_whole_in_order_and_once(disk: Path) -> None:
    lines = Lines(disk / "lines")
    lines.add("a" * 4_000)
    filler = fill(disk)
    for letter in "bcd":
        lines.add(letter * 5_000)
    assert (disk / "lines").read_text() != "".join(f"{letter * 5_000}\n" for letter in "abcd")
    filler.unlink()
    lines.add("e")
    assert (disk / "lines").read_text() == "\n".join(["a" * 4_000, "b" * 5_000, "c" * 5_000, "d" * 5_000, "e", ""])


def test_a_job_on_a_full_disk_goes_on_and_keeps_its_numbers(disk: Path) -> None:
    job = Job(disk, {"kind": "train", "payload": {"run_id": 1}, "home": str(disk / "home")})
    filler = fill(disk)
    for step in range(1, 200):
        job.step(step, {"loss": 1.0, "more": "x" * 100})
        job.report(step / 200, f"Step {step}")
    filler.unlink()
    job.settle()
    steps = [json.loads(line)["step"] for line in (disk / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 200))


def test_a_result_waits_for_room(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RETRY_SECONDS", 0.01)
    filler = fill(disk)
    assert is_full(disk)
    waiting = threading.Thread(target=write_when_there_is_room, args=(disk / "result.json", {"status": "succeeded"}))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and not (disk / "result.json").exists()
    filler.unlink()
    wait_for(lambda: not waiting.is_alive(), 10)
    assert json.loads((disk / "result.json").read_text()) == {"status": "succeeded"}


def test_who_asks_for_a_stop_does_not_wait_for_room(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RETRY_SECONDS", 0.01)
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        write_when_there_is_room(disk / "result.json", {"status": "stopped"}, lambda: True)


def test_another_trouble_than_room_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_when_there_is_room(tmp_path / "no folder" / "result.json", {})


# A training goes on when there is room again


def test_a_training_that_found_no_room_waits_for_it_and_another_job_fails(store: Store) -> None:
    puppets = Puppets()
    worker = Worker(store.home, store=store, executor=puppets)
    full = {"status": "failed", "error_kind": "disk", "error": "The disk is full; ..."}
    ended = []
    for kind in ("train", "map"):
        job = store.queue.submit(kind, max_attempts=1)
        worker.do_round()
        puppets.end(result=full, exit=EXIT)
        worker.do_round()
        ended.append(store.queue.get(job.id))
    assert [job.status for job in ended] == [JobStatus.QUEUED, JobStatus.FAILED]
    assert "goes on by itself when there is room" in ended[0].progress_text


def test_nothing_begins_on_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LITTLE_ROOM", 2**60)  # more than any disk has
    worker = Worker(store.home, store=store, executor=Puppets())
    job = store.queue.submit("map")
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.QUEUED
    monkeypatch.setattr(room, "LITTLE_ROOM", 0)
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.RUNNING
