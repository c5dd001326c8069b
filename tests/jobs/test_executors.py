"""The worker's protocol over an executor that does as it is told, without a single process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hydralora.errors import UserError
from jobs.home import Home
from jobs.kinds import grace_seconds
from jobs.runner.begin import REFUSED
from jobs.runner.choice import KEY, NODE_LOST, Choice, Handle, UnreachableError
from jobs.runner.executors import EXECUTORS, find_executor
from jobs.runner.executors.by_lane import ByLane, choose
from jobs.runner.worker import Worker, work
from jobs.store.logs import page
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store


class Puppets:
    """Attempts are names; a test decides when they write, end and die."""

    def __init__(self) -> None:
        self.alive: dict[str, Path] = {}
        self.asked: list[str] = []
        self.collected: list[str] = []
        self.refusal: Exception | None = None
        self.not_yet: set[str] = set()
        self.said = ""
        self.places: int | None = None
        self.is_lost = False

    def check(self) -> None:
        """Nothing is needed."""

    def slots(self, kind: str) -> int | None:
        return self.places

    def is_ready(self, kind: str, cwd: Path) -> bool:
        return kind not in self.not_yet

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        if self.refusal is not None:
            raise self.refusal
        name = f"{kind} in {folder.name}"
        self.alive[name] = folder
        return {"name": name, **({} if self.places is None else {"engine": "puppets"})}

    def is_alive(self, handle: Handle) -> bool:
        if self.is_lost:
            raise UnreachableError("Nobody answers.")
        return handle.get("name") in self.alive

    def stop(self, handle: Handle, *, at_once: bool = False) -> None:
        if at_once:
            self.alive.pop(handle.get("name", ""), None)
        else:
            self.asked.append(handle["name"])

    def logs(self, handle: Handle) -> str:
        return self.said

    def collect(self, handle: Handle) -> None:
        self.collected.append(handle["name"])

    def end(self, **files: Any) -> None:
        """The only attempt writes files and is gone."""
        ((name, folder),) = self.alive.items()
        for file, value in files.items():
            (folder / f"{file}.json").write_text(json.dumps(value), "utf-8")
        del self.alive[name]


EXIT = {"code": 0, "limit": None, "seconds": 1.0, "peak_bytes": 5}


@pytest.fixture
def puppets() -> Puppets:
    return Puppets()


@pytest.fixture
def worker(store: Store, puppets: Puppets) -> Worker:
    return Worker(store.home, store=store, executor=puppets)


@pytest.fixture
def job(store: Store, worker: Worker) -> Job:
    """A job that the worker has started."""
    queued = store.queue.submit("map", {"which": "B"}, max_attempts=2)
    worker.do_round()
    return store.queue.get(queued.id)


def test_what_an_executor_started_is_stored_with_the_job(job: Job) -> None:
    assert job.status == JobStatus.RUNNING and str((job.process or {})["name"]).startswith("map in ")


def test_what_is_not_ready_lets_others_of_its_lane_go_first(store: Store, worker: Worker, puppets: Puppets) -> None:
    first, second = store.queue.submit("map", {"which": "B"}), store.queue.submit("compare", {})
    puppets.not_yet = {"map"}
    worker.do_round()
    status = [store.queue.get(job.id).status for job in (first, second)]
    assert status == [JobStatus.QUEUED, JobStatus.RUNNING]
    puppets.not_yet = set()
    puppets.end(result={"status": "succeeded", "result": {}}, exit=EXIT)
    worker.do_round()
    assert store.queue.get(first.id).status == JobStatus.RUNNING


def test_a_result_of_any_executor_ends_the_job(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    puppets.end(result={"status": "succeeded", "result": {"sentence": "Done so."}}, exit=EXIT)
    worker.do_round()
    done = store.queue.get(job.id)
    assert (done.status, done.result) == (JobStatus.SUCCEEDED, {"sentence": "Done so.", "peak_bytes": 5})
    assert len(puppets.collected) == 1 and not worker.care.running


def test_what_vanishes_without_a_word_is_queued_again(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    puppets.end()
    worker.do_round()
    again = store.queue.get(job.id)
    assert (again.status, again.attempt) == (JobStatus.QUEUED, 1) and "vanished" in again.progress_text


def test_a_later_worker_adopts_what_still_lives(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    later = Worker(store.home, store=store, executor=puppets)
    later.me.name = "a later worker"
    store.workers.sign_out(worker.me.name)
    later.do_round()
    assert list(later.care.running) == [job.id] and store.queue.get(job.id).worker == later.me.name
    worker.do_round()  # the first finds that the job is not its own any more
    assert not worker.care.running


def test_a_stop_asks_first_and_kills_after_the_grace(store: Store, worker: Worker, puppets: Puppets, job: Job) -> None:
    store.queue.stop(job.id)
    worker.do_round()
    assert len(puppets.asked) == 1 and puppets.alive
    assert (worker.care.running[job.id].folder / "stop").exists()
    worker.care.running[job.id].stop_sent_at = time.monotonic() - grace_seconds("map") - 1
    worker.do_round()
    assert not puppets.alive
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.STOPPED


@pytest.mark.parametrize(
    ("refusal", "kind"), [(UserError("No such thing here. Choose another."), "user"), (OSError("full"), "disk")]
)
def test_what_cannot_be_started_has_failed_with_a_reason(
    store: Store, worker: Worker, puppets: Puppets, refusal: Exception, kind: str
) -> None:
    puppets.refusal = refusal
    queued = store.queue.submit("map", {})
    worker.do_round()
    failed = store.queue.get(queued.id)
    assert (failed.status, failed.error_kind) == (JobStatus.FAILED, kind) and str(refusal) in (failed.error or "")


def test_an_unknown_executor_is_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(UserError, match=r"no executor called 'moon'. Choose one of: local, spawn, ray, slurm\."):
        work(home, choice=Choice("moon"))


def test_an_added_executor_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXECUTORS, "puppets", lambda choice, home: Puppets())
    assert isinstance(find_executor(Choice("puppets"), tmp_path), Puppets)


@pytest.fixture
def far(puppets: Puppets) -> Puppets:
    """An engine elsewhere with room for two attempts."""
    puppets.places = 2
    return puppets


def test_heavy_jobs_go_to_the_chosen_executor_and_all_others_stay(
    store: Store, far: Puppets, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = Puppets()
    monkeypatch.setitem(EXECUTORS, "far", lambda choice, home: far)
    monkeypatch.setitem(EXECUTORS, "local", lambda choice, home: near)
    for kind in ("train", "train", "train", "map"):
        store.queue.submit(kind)
    Worker(store.home, store=store, executor=ByLane(Choice("far"), store.home.root)).do_round()
    assert len(far.alive) == 1 and list(near.alive) == ["map in 1"]  # their names are those of their folders


def test_an_engine_is_given_as_many_heavy_jobs_as_it_has_room_for(store: Store, worker: Worker, far: Puppets) -> None:
    jobs = [store.queue.submit("train") for _ in range(3)]
    worker.do_round()
    assert [store.queue.get(job.id).status for job in jobs] == ["running", "running", "queued"]


def test_an_attempt_that_waits_for_a_node_keeps_its_lease(store: Store, worker: Worker, far: Puppets) -> None:
    job = store.queue.submit("train")
    worker.do_round()
    before = store.queue.get(job.id).lease_until
    worker.signed_at = -1e9
    worker.do_round()
    found = store.queue.get(job.id)
    assert found.lease_until > before and found.progress_text == "Waiting for a node"


def test_a_job_whose_node_is_lost_is_interrupted_and_not_to_blame(store: Store, worker: Worker, far: Puppets) -> None:
    job = store.queue.submit("train", max_attempts=1)
    worker.do_round()
    far.alive.clear()
    far.said, far.places = "Node 10.0.0.7 has died.", 0
    worker.do_round()
    found = store.queue.get(job.id)
    assert (found.status, found.progress_text) == (JobStatus.QUEUED, NODE_LOST)
    assert far.said in page(store.home, found).text


def test_while_an_engine_cannot_be_asked_the_lease_says_who_lives(store: Store, worker: Worker, far: Puppets) -> None:
    job = store.queue.submit("train")
    worker.do_round()
    far.is_lost = True
    worker.do_round()
    running = store.queue.get(job.id)
    assert running.status == JobStatus.RUNNING
    far.places = 0
    (store.home.job(job.id, 1) / "started.json").write_text("{}")
    store.attempts.write(running, lease_until=1.0)
    worker.signed_at = -1e9
    worker.do_round()
    assert store.queue.get(job.id).status == JobStatus.QUEUED


def test_a_node_that_cannot_use_the_folder_fails_the_job_with_its_sentence(
    store: Store, worker: Worker, far: Puppets
) -> None:
    job = store.queue.submit("train")
    worker.do_round()
    far.alive.clear()
    far.said = f"{REFUSED} node7 cannot use the folder of this attempt (Permission denied). Share it."
    worker.do_round()
    found = store.queue.get(job.id)
    assert (found.status, found.error_kind) == (JobStatus.FAILED, "user")
    assert found.error == "node7 cannot use the folder of this attempt (Permission denied). Share it."


def test_an_engine_that_is_not_there_is_refused_and_nothing_is_changed(store: Store) -> None:
    with pytest.raises(UserError, match=r"Ray cluster at http://127\.0\.0\.1:9 does not answer"):
        choose(store, Choice("ray", "127.0.0.1:9"))
    assert store.settings.get(KEY) is None
