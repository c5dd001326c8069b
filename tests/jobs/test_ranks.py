"""One run trained by several processes: the same run, and one attempt that lives and ends as a whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from hydralora.config import TrainConfig, parse_config
from hydralora.errors import TrainingError, UserError
from hydralora.files import file_hash
from hydralora.training.ranks import share_of, why_alone
from hydralora.training.train import train_adapter
from jobs.runner.choice import Choice
from jobs.runner.executors import find_executor
from jobs.runner.outcome import Retry, outcome_of
from jobs.runner.ranks import PROCESSES_VARIABLE
from jobs.runner.running import RunningJob
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
from tests.jobs.conftest import wait_for
from tests.jobs.test_artefacts import Machine

TRAIN = {"batch_size": 4, "accumulation": 2, "max_steps": 96, "save_every": 8, "eval_every": 16, "gate_every": 4}
COMPARED = ("loss", "eval_loss", "learning_rate", "grad_norm")
ADAPTER = {"num_experts": 2, "r": 4, "lora_dropout": 0.0}  # each process draws its own dropout


@pytest.mark.parametrize(
    ("batch", "passes", "processes", "share"),
    [(8, 4, 2, (8, 2)), (8, 1, 2, (4, 1)), (8, 3, 4, (6, 1)), (4, 2, 1, (4, 2)), (3, 2, 2, (3, 1))],
)
def test_a_step_has_the_same_rows_however_many_processes_take_it(
    batch: int, passes: int, processes: int, share: tuple[int, int]
) -> None:
    assert share_of(TrainConfig(batch_size=batch, accumulation=passes), processes) == share


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"method": "hydralora"}, ""),
        ({"method": "lorahub"}, "a schedule or tasks of its own"),
        ({"method": "lora", "train": {"objective": "dpo"}}, "`objective` is dpo"),
        ({"method": "lora", "train": {"batch_size": 3, "accumulation": 1}}, "3 rows, which 2 processes cannot share"),
    ],
)
def test_what_several_processes_cannot_train_is_trained_by_one(config: dict[str, Any], why: str) -> None:
    found = why_alone(parse_config({"base": "starter", **config}), 2)
    assert (why in found) and bool(found) == bool(why)


def test_no_process_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"0 processes.*--job-processes"):
        Choice(processes=0)


def test_several_processes_take_the_place_of_as_many_trainings(tmp_path: Path) -> None:
    assert find_executor(Choice("local"), tmp_path).slots("train") is None
    assert find_executor(Choice("local", processes=2), tmp_path).slots("train") == 1


class Trainings:
    """Runs of one corpus, each on a machine of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, tokenizer = folder, make_tokenizer()
        make_llama(len(tokenizer), positions=2048).save_pretrained(folder / "base")
        tokenizer.save_pretrained(folder / "base")
        rows = [{**row, "split": "train" if i < 56 else "test"} for i, row in enumerate(easy_rows())]
        self.file = write_lines(folder / "easy.jsonl", rows)  # whole steps in an epoch: no row comes twice at its end

    def start(self, name: str, train: dict[str, Any] | None = None, method: str = "hydralora") -> tuple[Machine, int]:
        machine = Machine(self.folder / name, "")
        machine.store.bases.add(self.folder / "base")
        corpus = machine.store.corpora.add("easy", [self.file])
        assert machine.work("light").status == JobStatus.SUCCEEDED
        config: dict[str, Any] = {
            "base": str(self.folder / "base"),
            "method": method,
            "train": {**TRAIN, **(train or {})},
        }
        config |= {"adapter": ADAPTER} if method == "hydralora" else {}
        return machine, machine.store.runs.start(corpus.id, config).id


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    return Trainings(tmp_path)


def assert_same(store: Store, run: int, other: Store, other_run: int) -> None:
    """The same numbers of every step, routing weights and adapter, bit for bit: halves are added without an error."""
    for one, two in zip(store.runs.steps(run), other.runs.steps(other_run), strict=True):
        numbers = [{name: value for name, value in step.numbers.items() if name in COMPARED} for step in (one, two)]
        assert (one.step, numbers[0], one.gates) == (two.step, numbers[1], two.gates)
    adapters = [home.adapter(number) for home, number in ((store.home, run), (other.home, other_run))]
    assert len({file_hash(adapter / "adapter_model.safetensors") for adapter in adapters}) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_processes_train_what_one_does_and_end_together(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, run = trainings.start("alone")
    assert alone.work().status == JobStatus.SUCCEEDED
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    pair, of_two = trainings.start("pair")
    done = pair.work()
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert_same(pair.store, of_two, alone.store, run)

    broken, interrupted = trainings.start("broken")
    job, process = broken.begin()
    checkpoints = broken.home.near.run(interrupted) / "checkpoints"
    wait_for(lambda: list(checkpoints.glob("*/complete.json")), 240)
    children = psutil.Process(process.pid).children()
    (other,) = [child for child in children if "jobs.runner.ranks" in child.cmdline()]
    os.kill(other.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert isinstance(outcome_of(RunningJob(job, broken.home.job(job.id, 1), {})), Retry)
    broken.take_up(job)
    done = broken.work()
    assert done.status == JobStatus.SUCCEEDED and (done.result or {})["resumed_from"] >= 4
    assert_same(broken.store, interrupted, pair.store, of_two)


def test_the_library_refuses_what_several_processes_cannot_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    odd = parse_config({"base": "starter", "train": {"batch_size": 1}})
    with pytest.raises(TrainingError, match=r"2 processes cannot train this run together: a step has 1 rows"):
        train_adapter(odd, tmp_path, tmp_path / "run")
