"""How long a run will take is found out without keeping anybody waiting."""

from __future__ import annotations

import pytest

from hydralora.config import TrainConfig
from hydralora.training.presets import Speed
from studio.estimate import Place, ask_speed, tell
from tests.studio.stored import Stored


def test_opening_the_page_times_nothing_while_a_training_waits(stored: Stored) -> None:
    corpus = stored.corpus()
    stored.run(corpus, finished=False)
    assert ask_speed(stored.store, Place(corpus.id, "starter", "hydralora")) is None


def test_opening_the_page_times_a_few_steps_where_nothing_waits(stored: Stored) -> None:
    corpus = stored.corpus()
    job = ask_speed(stored.store, Place(corpus.id, "starter", "hydralora"))
    assert job is not None and job.kind == "speed"


def test_a_timing_that_was_asked_for_comes_after_the_trainings_that_wait(stored: Stored) -> None:
    corpus = stored.corpus()
    assert ask_speed(stored.store, Place(corpus.id, "starter", "hydralora"), fetch=True) is not None
    trainings = [stored.run(corpus, finished=False) for _ in range(2)]
    claimed = [stored.store.attempts.claim("tests", "here", "heavy") for _ in range(3)]
    kinds = [job.kind for job in claimed if job]
    assert kinds == ["train", "train", "speed"] and len(trainings) == 2


def known_pace(stored: Stored, corpus_id: int) -> Place:
    """A place whose speed was measured: 10 s to begin, a second a step of 16, 2 s a measurement."""
    place = Place(corpus_id, "starter", "hydralora")
    job = ask_speed(stored.store, place)
    assert job is not None
    stored.end(job, {"start": 10.0, "step": 1.0, "evaluation": 2.0, "batch": 16})
    return place


def test_the_time_told_counts_steps_batch_accumulation_and_measurements(stored: Stored) -> None:
    place = known_pace(stored, stored.corpus().id)
    values = {"max_steps": 100, "batch_size": 8, "accumulation": 4, "eval_every": 50}
    assert "3 min 36 s" in tell(stored.store, place, values)  # 10 + 100 * 2 + 3 * 2


def test_the_time_of_epochs_is_that_of_the_steps_they_come_to(stored: Stored) -> None:
    corpus = stored.corpus(rows=[{"prompt": f"question {i}", "answer": "a"} for i in range(100)])
    place = known_pace(stored, corpus.id)
    values = {"epochs": 3, "batch_size": 16, "eval_every": 0, "held_out_fraction": 0.2}
    assert "3 epochs are about 15 steps. About 27 s" in tell(stored.store, place, values)  # 10 + 15 + 2


def test_numbers_out_of_bounds_give_a_sentence_and_no_time(stored: Stored) -> None:
    place = known_pace(stored, stored.corpus().id)
    assert "within its bounds" in tell(stored.store, place, {"max_steps": None})
    assert "within its bounds" in tell(stored.store, place, {"epochs": 10_000, "batch_size": 10**9})


def test_a_step_of_pairs_takes_longer_than_one_of_answers() -> None:
    speed = Speed(start=10.0, step=3.0, evaluation=1.0, batch=4)
    train = TrainConfig(max_steps=10, batch_size=4, eval_every=5)
    pairs = train.model_copy(update={"objective": "dpo"})
    assert speed.of_run(train, 100) == 10 + 30 + 3
    assert speed.of_run(pairs, 100) == pytest.approx(10 + 10 * 8 + 3 * 4)
