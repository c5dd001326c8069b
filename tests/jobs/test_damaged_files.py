"""A damaged file of an attempt ends its own job with a sentence; numbers are stored before a job changes state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.runner.worker import Worker
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.jobs.test_executors import EXIT, Puppets
from tests.jobs.test_worker import make_run


@pytest.fixture
def puppets() -> Puppets:
    return Puppets()


@pytest.fixture
def worker(store: Store, puppets: Puppets) -> Worker:
    return Worker(store.home, store=store, executor=puppets)


@pytest.fixture
def job(store: Store, worker: Worker) -> Job:
    """A training that has begun, of a run that exists."""
    run = make_run(store)
    queued = store.queue.submit("train", {"run_id": run}, run_id=run)
    worker.do_round()
    return store.queue.get(queued.id)


def folder_of(store: Store, job: Job) -> Path:
    return store.home.job(job.id, job.attempt)


def line(run_id: int, step: int, **values: Any) -> str:
    return json.dumps({"run_id": run_id, "step": step, "values": {"loss": 1.0 / step, **values}}) + "\n"


def write_lines(store: Store, job: Job, *lines: str | bytes) -> None:
    with (folder_of(store, job) / "metrics.jsonl").open("ab") as file:
        file.writelines(text if isinstance(text, bytes) else text.encode() for text in lines)


def stored_steps(store: Store, job: Job) -> list[int]:
    return [step.step for step in store.runs.steps(job.run_id or 0)]


DAMAGE = {
    "empty": b"",
    "cut short": b'{"status": "succ',
    "NUL": b"\x00" * 64,
    "no object": b"[1, 2]",
    "no UTF-8": b'{"status": "\xff"}',
    "without its parts": b"{}",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("file", ["result.json", "exit.json"])
@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_ends_its_own_job_and_no_other(
    store: Store, worker: Worker, puppets: Puppets, job: Job, file: str, data: bytes
) -> None:
    other = store.queue.submit("map", {})
    worker.do_round()
    for name in ("result.json", "exit.json"):
        value = {"status": "succeeded", "result": {}} if name == "result.json" else EXIT
        (folder_of(store, job) / name).write_text(json.dumps(value), "utf-8")
    (folder_of(store, job) / file).write_bytes(data)
    other_folder = folder_of(store, store.queue.get(other.id))
    (other_folder / "result.json").write_text('{"status": "succeeded", "result": {}}', "utf-8")
    (other_folder / "exit.json").write_text(json.dumps(EXIT), "utf-8")
    puppets.alive.clear()
    worker.do_round()
    ended, fine = store.queue.get(job.id), store.queue.get(other.id)
    assert (ended.status, ended.error_kind) == (JobStatus.FAILED, "damaged")
    assert (ended.error or "").startswith(f"{file} of this attempt is damaged: ") and "resume it" in (ended.error or "")
    assert fine.status == JobStatus.SUCCEEDED and not worker.care.running


@pytest.mark.parametrize(
    "bad",
    [
        b"\x00\x00\x00\n",
        b'{"run_id": 1, "step": 2, "val\n',
        b'{"run_id": 1, "step": -2, "values": {}}\n',
        b'{"run_id": 1, "step": 1e3, "values": {}}\n',
        b'{"run_id": 1, "step": 2, "values": []}\n',
        b'{"run_id": 77, "step": 2, "values": {}}\n',
        b'{"run_id": 1, "step": 2, "values": {"loss": 1' + b"0" * 400 + b"}}\n",
        b"[" * 100_000 + b"\n",
        b"\n",
    ],
    ids=["NUL", "cut", "negative", "no whole number", "no values", "another run", "huge", "deep", "blank"],
)
def test_a_damaged_line_ends_its_own_job_and_loses_no_other_line(
    store: Store, worker: Worker, puppets: Puppets, job: Job, bad: bytes
) -> None:
    run = job.run_id or 0
    write_lines(store, job, line(run, 1), bad, line(run, 3))
    other = store.queue.submit("map", {})
    worker.do_round()
    ended = store.queue.get(job.id)
    assert (ended.status, ended.error_kind) == (JobStatus.FAILED, "damaged")
    assert f"the line at byte {len(line(run, 1))} holds no step of this run" in (ended.error or "")
    assert stored_steps(store, job) == [1, 3]
    assert (folder_of(store, job) / "metrics.jsonl").read_bytes().count(b"\n") == 3  # kept as it is
    assert not any(folder.parent.name == str(job.id) for folder in puppets.alive.values())
    assert store.queue.get(other.id).status == JobStatus.RUNNING


def test_a_number_that_is_none_is_left_out_and_ends_nothing(store: Store, worker: Worker, job: Job) -> None:
    run = job.run_id or 0
    more = {"eval_exact_match": float("nan"), "grad_norm": float("inf"), "gates": {"a": [float("nan"), 0.5]}}
    write_lines(store, job, line(run, 1, **more), line(run, 2, eval_exact_match=0.5))
    worker.do_round()
    first, second = store.runs.steps(run)
    assert first.numbers == {"loss": 1.0} and first.gates is None
    assert second.numbers == {"loss": 0.5, "eval_exact_match": 0.5}
    assert store.queue.get(job.id).status == JobStatus.RUNNING


def test_a_result_that_is_no_number_is_stored_as_none(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    (folder_of(store, job) / "result.json").write_text('{"status": "succeeded", "result": {"a": NaN, "b": "x\\u0000"}}')
    puppets.end(exit=EXIT)
    worker.do_round()
    done = store.queue.get(job.id)
    assert done.status == JobStatus.SUCCEEDED and (done.result or {})["a"] is None


def test_a_damaged_progress_is_no_news(store: Store, worker: Worker, job: Job) -> None:
    (folder_of(store, job) / "progress.json").write_bytes(b"\x00\x00")
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.RUNNING


def test_a_half_written_line_waits_for_its_end(store: Store, worker: Worker, job: Job) -> None:
    run = job.run_id or 0
    whole = line(run, 2)
    write_lines(store, job, line(run, 1), whole[:10])
    worker.do_round()
    assert stored_steps(store, job) == [1]
    write_lines(store, job, whole[10:])
    worker.do_round()
    assert stored_steps(store, job) == [1, 2] and store.queue.get(job.id).status == JobStatus.RUNNING


def test_a_later_worker_quarantines_what_it_adopts(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    (folder_of(store, job) / "exit.json").write_bytes(b"")
    puppets.alive.clear()
    other = store.queue.submit("map", {})
    later = Worker(store.home, store=store, executor=puppets)
    later.me.name = "a later worker"
    later.do_round()
    assert store.queue.get(job.id).error_kind == "damaged"
    assert store.queue.get(other.id).status == JobStatus.RUNNING


# Numbers are stored before a job changes state, whoever changes it


def test_numbers_are_stored_before_a_job_is_queued_again(store: Store, job: Job) -> None:
    write_lines(store, job, *(line(job.run_id or 0, step) for step in (1, 2, 3)))
    store.attempts.give_back(job, "Its worker has not been heard of.")  # as for a worker of another machine
    assert store.queue.get(job.id).status == JobStatus.QUEUED and stored_steps(store, job) == [1, 2, 3]


def test_numbers_are_stored_before_a_job_ends(store: Store, job: Job) -> None:
    write_lines(store, job, *(line(job.run_id or 0, step) for step in (1, 2, 3)))
    assert store.attempts.finish(job, JobStatus.FAILED, 1.0, error="no")
    assert stored_steps(store, job) == [1, 2, 3]


def test_numbers_of_a_job_that_was_lost_are_stored_once(
    store: Store, worker: Worker, puppets: Puppets, job: Job
) -> None:
    run = job.run_id or 0
    write_lines(store, job, line(run, 1))
    worker.do_round()
    write_lines(store, job, line(run, 2), line(run, 2), line(run, 3))
    puppets.end()  # killed together with its reaper, without a word
    worker.do_round()
    assert stored_steps(store, job) == [1, 2, 3] and store.queue.get(job.id).attempt == 2  # it came further: at once


def test_a_worker_that_lost_its_job_stores_no_number(store: Store, job: Job) -> None:
    write_lines(store, job, line(job.run_id or 0, 1))
    assert store.attempts.adopt(job, "another") is not None
    assert not store.attempts.finish(job, JobStatus.FAILED, 1.0)
    assert stored_steps(store, job) == []
