"""A training that meets a real limit of memory says so, and goes on in smaller parts from its last checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.home import Home
from jobs.runner.service import start_worker
from jobs.store.records import Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
from tests.jobs.conftest import end_home, wait_for

HUNGRY = "tests.jobs.hungry_training"
STEPS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store whose trainings may take 7 GiB, so that eight examples are too many."""
    home, folder, tokenizer = Home(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("base"), make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    store = Store(home)
    store.bases.add(folder, name="tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_STUDIO_LIMIT_TRAIN_MEMORY_GIB", "7")
        start_worker(home, "--tasks", HUNGRY)
    yield store
    end_home(home)


@pytest.fixture(scope="module")
def corpus(store: Store, tmp_path_factory: pytest.TempPathFactory) -> int:
    made = store.corpora.add("easy", [write_lines(tmp_path_factory.mktemp("files") / "easy.jsonl", easy_rows())])
    wait_for(lambda: store.corpora.get(made.id).is_ready)
    return made.id


def started(store: Store, corpus: int, **train: Any) -> Run:
    settings = {"max_steps": STEPS, "save_every": 2, "eval_every": 0, "max_length": 64, **train}
    return store.runs.start(corpus, {"base": "tiny", "adapter": {"r": 4, "num_experts": 2}, "train": settings})


def ended(store: Store, run: Run) -> Run:
    wait_for(lambda: store.queue.get(store.runs.get(run.id).job.id).is_finished, 240)
    return store.runs.get(run.id)


@pytest.fixture(scope="module")
def failed(store: Store, corpus: int) -> Run:
    """A run that was to ask, and does."""
    return ended(store, started(store, corpus, batch_size=8))


def test_it_fails_in_a_sentence_that_names_the_limit(store: Store, failed: Run) -> None:
    assert (failed.status, failed.job.error_kind, failed.job.attempt) == (JobStatus.FAILED, "memory", 1)
    assert "7 GiB of memory" in failed.job.error and failed.can_shrink


def test_one_word_goes_on_from_the_last_checkpoint_with_half_as_many_examples(store: Store, failed: Run) -> None:
    before = {step.step: step.numbers["loss"] for step in store.runs.steps(failed.id) if "loss" in step.numbers}
    assert store.runs.checkpoints(failed.id) == [2]
    done = ended(store, store.runs.resume(failed.id, smaller=True))
    assert done.status == JobStatus.SUCCEEDED, done.job.error
    train, summary = done.config.train, done.summary
    assert (train.batch_size, train.accumulation, train.batch_asked) == (4, 2, 8)
    assert summary.resumed_from == 2 and summary.steps == STEPS
    assert "with 8 examples in one forward pass and went on with 4, 2 passes added up" in summary.note
    after = {step.step: step.numbers["loss"] for step in store.runs.steps(failed.id) if "loss" in step.numbers}
    assert sorted(after) == list(range(1, STEPS + 1)) and after[3] == pytest.approx(before[3], rel=1e-3)


def test_where_it_may_it_goes_on_by_itself_until_it_fits(store: Store, corpus: int) -> None:
    run = started(store, corpus, batch_size=16, on_out_of_memory="retry")
    done = ended(store, run)
    assert done.status == JobStatus.SUCCEEDED, done.job.error
    assert done.job.id == run.job.id and done.job.attempt == 3
    train = done.config.train
    assert (train.batch_size, train.accumulation, train.batch_asked) == (4, 4, 16)
    assert "with 16 examples in one forward pass and went on with 4" in done.summary.note
