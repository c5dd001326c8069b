"""Each training has a GPU of its own, chosen by free memory; a small program stands for the driver's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.kinds import KINDS
from jobs.machine import look_at_gpus
from jobs.runner.environment import job_environment
from jobs.runner.service import start_worker
from jobs.runner.worker import Worker
from jobs.store.records import Job
from jobs.store.store import Store
from tests.jobs.conftest import end_home, wait_for
from tests.jobs.test_executors import EXIT, Puppets

TWO = ("GPU-aaaa, Small Card, 8000, 7000", "GPU-bbbb, Large Card, 80000, 60000")


class Places(Puppets):
    """Remembers the GPU that each attempt was given, by the kind of its job."""

    def __init__(self) -> None:
        super().__init__()
        self.gpus: list[tuple[str, str | None]] = []

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> dict[str, str]:
        self.gpus.append((kind, gpu))
        return super().start(f"{kind} of {folder.parent.name}", folder, cwd, gpu)


def driver(folder: Path, patch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a program `nvidia-smi` that says these lines before all others, and let every GPU be seen."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines), "utf-8")
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "driver"
    driver(folder, monkeypatch, *TWO)
    return folder


@pytest.fixture
def places() -> Places:
    return Places()


@pytest.fixture
def worker(two: Path, store: Store, places: Places) -> Worker:
    return Worker(store.home, store=store, executor=places)


def queued(store: Store, *kinds: str) -> list[Job]:
    return [store.queue.submit(kind) for kind in kinds]


def test_the_gpu_with_the_most_free_memory_is_taken_first_and_then_the_other(
    store: Store, worker: Worker, places: Places
) -> None:
    jobs = queued(store, "train", "train", "train")
    worker.do_round()
    assert places.gpus == [("train", "GPU-bbbb"), ("train", "GPU-aaaa")]
    assert (store.queue.get(jobs[0].id).process or {})["gpu"] == "GPU-bbbb"
    assert store.queue.get(jobs[2].id).status == "queued"  # a GPU takes one training


def test_free_memory_is_asked_for_when_a_job_begins(
    store: Store, worker: Worker, places: Places, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(two, monkeypatch, "GPU-aaaa, Small Card, 8000, 7000", "GPU-bbbb, Large Card, 80000, 100")
    queued(store, "train")
    worker.do_round()
    assert places.gpus == [("train", "GPU-aaaa")]


def test_a_later_worker_knows_which_gpu_is_taken(store: Store, worker: Worker, places: Places) -> None:
    queued(store, "train")
    worker.do_round()
    later = Worker(store.home, store=store, executor=places)
    later.me.name = "a later worker"
    store.workers.sign_out(worker.me.name)
    queued(store, "train")
    later.do_round()
    assert places.gpus == [("train", "GPU-bbbb"), ("train", "GPU-aaaa")]


class Dying(Places):
    """Starts an attempt, which says who it is, and its worker dies before it can store that."""

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> dict[str, str]:
        handle = super().start(kind, folder, cwd, gpu)
        (folder / "started.json").write_text(json.dumps({"pid": 1, **handle}))
        raise SystemExit


def test_a_later_worker_knows_the_gpu_that_an_earlier_one_died_too_early_to_store(two: Path, store: Store) -> None:
    dying = Dying()
    first, later = (Worker(store.home, store=store, executor=dying) for _ in range(2))
    later.me.name = "a later worker"
    for worker in (first, later):
        queued(store, "train")
        with pytest.raises(SystemExit):
            worker.do_round()
    assert dying.gpus == [("train", "GPU-bbbb"), ("train", "GPU-aaaa")]


def test_work_without_a_gpu_is_given_none_and_not_held_up(store: Store, worker: Worker, places: Places) -> None:
    queued(store, "train", "train", "map", "push")
    worker.do_round()
    assert [gpu for kind, gpu in places.gpus if kind in ("map", "push")] == [None, None]


def test_chat_leaves_its_gpu_when_a_training_takes_the_same_one_and_comes_back(
    store: Store, worker: Worker, places: Places, home: Home
) -> None:
    queued(store, "serve")
    worker.do_round()
    assert places.gpus == [("serve", "GPU-bbbb")] and not home.make_room.exists()
    first, second = queued(store, "train", "train")
    worker.do_round()
    assert home.make_room.exists()
    folder = worker.care.running[first.id].folder
    places.alive = {name: place for name, place in places.alive.items() if place != folder}
    (folder / "result.json").write_text('{"status": "succeeded", "result": {}}', "utf-8")
    (folder / "exit.json").write_text(str(EXIT).replace("'", '"').replace("None", "null"), "utf-8")
    worker.do_round()
    assert store.queue.get(first.id).is_finished and not store.queue.get(second.id).is_finished
    assert not home.make_room.exists()  # the other training has the other GPU


def test_only_what_computes_on_a_gpu_sees_one(two: Path) -> None:
    seen = {name: job_environment(name, {}, None).get("CUDA_VISIBLE_DEVICES") for name in KINDS}
    assert {name for name, gpus in seen.items() if gpus is None} == {k for k, kind in KINDS.items() if kind.uses_gpu}
    assert set(seen.values()) == {None, ""}
    assert job_environment("train", {"CUDA_VISIBLE_DEVICES": "0,1"}, "GPU-bbbb")["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"


@pytest.fixture
def ended(two: Path, home: Home, store: Store) -> Iterator[Callable[[Job], Job]]:
    """Wait for the end of a job that a worker process carries out, with that driver before all others."""
    start_worker(home, "--tasks", "tests.security.hungry_tasks", "--executor", "spawn")

    def wait(job: Job) -> Job:
        wait_for(lambda: store.queue.get(job.id).is_finished, 90)
        return store.queue.get(job.id)

    yield wait
    end_home(home)


def test_the_process_of_a_job_sees_its_gpu_alone(store: Store, ended: Callable[[Job], Job]) -> None:
    train, look = store.queue.submit("train", {"do": "tell"}), store.queue.submit("map", {"do": "tell"})
    seen = [(ended(job).result or {})["environment"]["CUDA_VISIBLE_DEVICES"] for job in (train, look)]
    assert seen == ["GPU-bbbb", ""]


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("1", ["GPU-bbbb"]),
        ("GPU-aa", ["GPU-aaaa"]),
        ("1,0", ["GPU-bbbb", "GPU-aaaa"]),
        ("", []),
        ("1,7,0", ["GPU-bbbb"]),
    ],
)
def test_no_gpu_is_chosen_that_the_studio_itself_may_not_see(
    named: str, seen: list[str], two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [gpu.uuid for gpu in look_at_gpus()] == seen


def test_a_number_names_none_of_unlike_gpus_whose_order_is_not_said(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-bbbb")
    assert look_at_gpus() == ()


def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path / "driver", monkeypatch, "Failed to initialize NVML: Driver/library version mismatch")
    assert look_at_gpus() == ()


def test_the_row_of_a_worker_says_what_its_machine_has(two: Path, store: Store, worker: Worker) -> None:
    worker.do_round()
    (row,) = store.workers.seen()
    assert [gpu["uuid"] for gpu in row["devices"]] == ["GPU-aaaa", "GPU-bbbb"]
    assert row["memory"] > 0 and row["address"] == "127.0.0.1"
