"""How long a run will take is found out without keeping anybody waiting."""

from __future__ import annotations

from studio.estimate import Place, ask_speed
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
    claimed = [stored.store.queue.claim("tests", "here", "heavy") for _ in range(3)]
    kinds = [job.kind for job in claimed if job]
    assert kinds == ["train", "train", "speed"] and len(trainings) == 2
