"""The tour: one job after the other, whoever looks; stopped, broken and taken away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hydralora.bases.packages import SMOLLM2
from hydralora.errors import UserError
from jobs.home import Home
from jobs.kinds import KINDS
from jobs.runner.service import start_worker
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.tour import SAMPLE, Tour
from tests.hydralora.conftest import make_llama, make_tokenizer
from tests.jobs.conftest import end_home, wait_for
from tests.studio.stored import clustering_result

FOUR = (
    clustering_result([["door"], ["boat"], ["tree"], ["lamp"]], [750] * 4).model_copy(update={"suggested_k": 4}).row()
)
SPEED = {"start": 5.0, "step": 0.1, "evaluation": 0.5, "batch": 16}


@pytest.fixture
def tour(store: Store) -> Tour:
    return Tour(store)


def finish(store: Store, kind: str, status: JobStatus = JobStatus.SUCCEEDED, **values: Any) -> Job:
    """End the waiting job of this kind as a worker would."""
    job = store.attempts.claim("w", "here", KINDS[kind].lane)
    assert job is not None and job.kind == kind
    assert store.attempts.finish(job, status, time.time(), **values)
    return job


def ended(store: Store, tour: Tour, kind: str, result: dict[str, Any]) -> None:
    finish(store, kind, result=result)
    tour.advance()


def waiting(store: Store) -> list[str]:
    return [job.kind for job in store.queue.jobs(statuses=[JobStatus.QUEUED])]


def walk_to_run(store: Store, tour: Tour) -> None:
    tour.begin(minutes=1)
    ended(store, tour, "ingest", {"examples": 3000, "rejected": 0, "format": "jsonl"})
    ended(store, tour, "cluster", FOUR)
    tour.advance()
    ended(store, tour, "speed", SPEED)


def test_an_empty_studio_offers_the_tour_and_one_with_a_corpus_does_not(store: Store, tour: Tour) -> None:
    assert tour.is_offered
    tour.begin()
    tour.dismiss()
    assert not tour.is_offered and not tour.is_on


def test_each_step_is_queued_when_the_one_before_has_ended_and_only_once(store: Store, tour: Tour) -> None:
    tour.begin(minutes=1)
    for kind, result in (
        ("ingest", {"examples": 3000, "rejected": 0, "format": "jsonl"}),
        ("cluster", FOUR),
        ("speed", SPEED),
    ):
        tour.advance()
        tour.advance()
        assert waiting(store) == [kind]
        finish(store, kind, result=result)
    tour.advance()
    tour.advance()
    assert waiting(store) == ["train"]
    run = store.runs.get(tour.run_id or 0)
    assert run.is_sample and run.config.adapter.experts == 4


def test_its_run_fills_the_minutes_that_were_asked_for(store: Store, tour: Tour) -> None:
    walk_to_run(store, tour)
    train = store.runs.get(tour.run_id or 0).config.train
    assert 0.7 * 60 <= SPEED["start"] + SPEED["step"] * train.max_steps <= 60


def test_it_ends_with_answers_and_gates(store: Store, tour: Tour) -> None:
    walk_to_run(store, tour)
    ended(store, tour, "train", {"steps": 10})
    assert sorted(waiting(store)) == ["answers", "routing"] and not tour.is_done
    for _ in range(2):
        job = store.attempts.claim("w", "here", "light")
        assert job is not None and store.attempts.finish(
            job, JobStatus.SUCCEEDED, time.time(), result={"sentence": "Fine."}
        )
    assert tour.is_done and all(stage.is_done for stage in tour.stages())


def test_a_failed_step_is_said_and_the_tour_can_begin_again(store: Store, tour: Tour) -> None:
    tour.begin()
    finish(store, "ingest", JobStatus.FAILED, error="The disk is full.")
    tour.advance()
    assert tour.problem == "The disk is full."
    tour.begin()
    tour.advance()
    assert tour.problem is None and waiting(store) == ["ingest"]


def test_a_machine_whose_speed_cannot_be_measured_still_trains(store: Store, tour: Tour) -> None:
    tour.begin()
    ended(store, tour, "ingest", {"examples": 3000, "rejected": 0, "format": "jsonl"})
    ended(store, tour, "cluster", FOUR)
    tour.advance()
    finish(store, "speed", JobStatus.FAILED, error="no")
    tour.advance()
    assert waiting(store) == ["train"]


def test_a_corpus_deleted_on_the_way_ends_the_tour_with_a_sentence(store: Store, tour: Tour) -> None:
    tour.begin()
    finish(store, "ingest", result={"examples": 3000, "rejected": 0, "format": "jsonl"})
    store.corpora.delete(tour.notes["corpus_id"])
    tour.advance()
    assert "does not exist" in (tour.problem or "")


def test_samples_are_removed_in_one_go_and_nothing_else_is(store: Store, tour: Tour) -> None:
    walk_to_run(store, tour)
    mine = store.corpora.add("mine", [store.home.uploads / "corpus-1" / "0" / f"{SAMPLE}.jsonl"])
    tour.remove()
    tour.advance()
    assert store.runs.all() == [] and [c.id for c in store.corpora.all()] == [mine.id]
    assert not tour.is_offered and not tour.notes.get("removing")


def test_a_sample_in_training_is_removed_once_it_has_stopped(store: Store, tour: Tour) -> None:
    walk_to_run(store, tour)
    job = store.attempts.claim("w", "here", "heavy")
    tour.remove()
    assert len(store.runs.all()) == 1 and job is not None and store.queue.get(job.id).status == JobStatus.STOPPING
    store.attempts.finish(job, JobStatus.STOPPED, time.time())
    tour.advance()
    tour.advance()
    assert store.runs.all() == [] and store.corpora.all() == []


def with_real_base(store: Store, tour: Tour, folder: Path) -> None:
    """Walk up to the clusters of a tour whose base is fetched; a little Llama stands in for what is fetched."""
    tour.begin(minutes=2, base=SMOLLM2.name)
    ended(store, tour, "ingest", {"examples": 3000, "rejected": 0, "format": "jsonl"})
    make_llama(len(make_tokenizer())).bfloat16().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    store.bases.add(folder, name=SMOLLM2.name)
    ended(store, tour, "base", {"folder": str(folder)})


def test_a_tour_with_a_real_model_fetches_it_first_and_trains_as_that_model_asks(
    store: Store, tour: Tour, tmp_path: Path
) -> None:
    with_real_base(store, tour, tmp_path / "model")
    assert [stage.name for stage in tour.stages()] == ["corpus", "base", "clusters", "run", "looks"]
    ended(store, tour, "cluster", FOUR)
    tour.advance()
    ended(store, tour, "speed", SPEED)
    config = store.runs.get(tour.run_id or 0).config
    assert config.base == str(tmp_path / "model") and config.train.dtype == "bfloat16"
    assert 0.7 * 120 <= SPEED["start"] + SPEED["step"] * config.train.max_steps <= 120


def test_a_model_that_is_here_is_not_fetched_by_the_tour(store: Store, tour: Tour, tmp_path: Path) -> None:
    with_real_base(store, tour, tmp_path / "model")
    tour.dismiss()
    tour.begin(base=SMOLLM2.name)
    assert [stage.name for stage in tour.stages()] == ["corpus", "clusters", "run", "looks"]


def test_a_model_that_cannot_be_fetched_is_told_and_the_starter_is_still_to_be_had(store: Store, tour: Tour) -> None:
    tour.begin(base=SMOLLM2.name)
    ended(store, tour, "ingest", {"examples": 3000, "rejected": 0, "format": "jsonl"})
    finish(store, "base", JobStatus.FAILED, error="There is no network.")
    tour.advance()
    assert tour.problem == "There is no network."
    tour.begin(base="starter")
    tour.advance()
    assert tour.problem is None and waiting(store) == ["cluster"]


def test_a_finished_tour_goes_on_with_the_real_model_on_the_same_clusters(store: Store, tour: Tour) -> None:
    walk_to_run(store, tour)
    tour.begin(base=SMOLLM2.name)
    assert tour.base == "starter"  # under way: nothing is changed
    ended(store, tour, "train", {"steps": 10})
    for _ in range(2):
        job = store.attempts.claim("w", "here", "light")
        result = {"sentence": "A."}
        assert job is not None and store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result=result)
    first, clusters = tour.run_id, tour.notes["clustering_id"]
    tour.begin(base=SMOLLM2.name)
    tour.advance()
    assert waiting(store) == ["base"] and tour.run_id is None and store.runs.get(first or 0).is_sample
    assert tour.notes["clustering_id"] == clusters


def test_a_base_that_the_tour_does_not_know_is_refused(store: Store, tour: Tour) -> None:
    with pytest.raises(UserError, match=r"walked with starter or smollm2-135m-instruct, got 'gpt'"):
        tour.begin(base="gpt")


@pytest.fixture
def real_store(home: Home) -> Iterator[Store]:
    store = Store(home)
    start_worker(home)
    yield store
    end_home(home)


def test_the_real_tour_arrives_with_nobody_looking(real_store: Store) -> None:
    tour = Tour(real_store)
    tour.begin(minutes=0.2)
    wait_for(lambda: tour.is_done or tour.problem, 240)
    assert tour.problem is None
    run = real_store.runs.get(tour.run_id or 0)
    assert run.config.adapter.experts == 4
    assert run.summary.held_out_loss < run.summary.held_out_loss_before


def test_an_unknown_sample_is_no_file(store: Store) -> None:
    from jobs.tour import add_sample

    with pytest.raises(UserError):
        add_sample(store, "nothing")
