"""The breakdown experiment: one LoRA per cluster, found again by its settings."""

from __future__ import annotations

import pytest

from hydralora.errors import UserError
from hydralora.options import LoraOptions
from jobs.breakdown import describe_breakdown, find_breakdown, start_breakdown
from jobs.home import Home
from jobs.store.records import Run
from jobs.store.store import Store
from tests.studio.stored import Stored


@pytest.fixture
def stored(store: Store, home: Home) -> Stored:
    return Stored(store)


@pytest.fixture
def run(stored: Stored) -> Run:
    """A finished run on a corpus of two clusters."""
    corpus = stored.corpus()
    stored.clustering(corpus)
    return stored.run(corpus, adapter={"num_experts": 2, "r": 4, "target_modules": ["q_proj"]})


def test_one_lora_is_queued_for_each_cluster_with_the_settings_of_the_run(store: Store, run: Run) -> None:
    first, second = start_breakdown(store, run.id)
    assert [r.config.train.only_cluster for r in (first, second)] == [1, 2]
    for started in (first, second):
        assert started.method == "lora" and started.base == run.base
        options = started.config.options_as(LoraOptions)
        assert (options.r, options.target_modules) == (4, ["q_proj"])
        assert started.config.train.model_copy(update={"only_cluster": 0}) == run.config.train


def test_own_seeds_are_another_breakdown(store: Store, run: Run) -> None:
    same, own = start_breakdown(store, run.id), start_breakdown(store, run.id, own_seeds=True)
    assert len({r.config.train.seed for r in same}) == 1 and len({r.config.train.seed for r in own}) == 2
    assert [r.id for r in find_breakdown(store, run)] == [r.id for r in same]
    assert [r.id for r in find_breakdown(store, run, own_seeds=True)] == [r.id for r in own]


def test_it_is_done_when_every_run_is(store: Store, stored: Stored, run: Run) -> None:
    first, second = start_breakdown(store, run.id)
    stored.end(first.job, {"held_out_loss": 1.0})
    assert describe_breakdown(find_breakdown(store, run)) == {
        "runs": [first.id, second.id],
        "finished": [first.id],
        "done": False,
    }
    stored.end(second.job, {"held_out_loss": 1.0})
    assert describe_breakdown(find_breakdown(store, run))["done"]


def test_the_newest_run_of_a_cluster_counts(store: Store, stored: Stored, run: Run) -> None:
    start_breakdown(store, run.id)
    again = start_breakdown(store, run.id)
    assert [r.id for r in find_breakdown(store, run)] == [r.id for r in again]


def test_a_corpus_without_clusters_is_refused(store: Store, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    with pytest.raises(UserError, match="has no clusters yet"):
        start_breakdown(store, run.id)
    assert describe_breakdown(find_breakdown(store, run)) == {"runs": [], "finished": [], "done": False}
