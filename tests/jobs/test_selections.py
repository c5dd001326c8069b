"""A selection is what meets every part of a query; one with a name stays the same examples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.store.records import Corpus
from jobs.store.selections import MOST_SELECTIONS, checked_query
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.studio.stored import Stored

COUNT = 60


@pytest.fixture
def stored(store: Store) -> Iterator[Stored]:
    filled = Stored(store)
    yield filled
    filled.end_all()


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    """60 rows with labels a, b and c by turns; every second one speaks of a kettle."""
    rows = [
        {"prompt": f"{'Kettle' if i % 2 else 'Lamp'} number {i}?", "answer": "yes " * (i + 1), "label": "abc"[i % 3]}
        for i in range(COUNT)
    ]
    return stored.corpus(rows=rows)


def positions(store: Store, corpus: Corpus, **asked: Any) -> list[int]:
    return store.selections.find(corpus.id, Query(**asked)).positions.tolist()


def test_nothing_asked_for_selects_everything(store: Store, corpus: Corpus) -> None:
    found = store.selections.find(corpus.id, Query())
    assert found.positions.tolist() == list(range(COUNT)) and (found.of, found.left_out, found.flags) == (COUNT, 0, {})


def test_facets_intersect(store: Store, stored: Stored, corpus: Corpus) -> None:
    stored.clustering(corpus)  # cluster is the parity, x = i / 10, y = -x
    store.exclusions.add(corpus.id, range(30), "first half")
    parts: list[dict[str, Any]] = [
        {"search": "KETTLE"},
        {"labels": ["a", "c"]},
        {"clusters": [1]},
        {"min_length": 100},
        {"left_out": "no"},
        {"rows": list(range(20, 50))},
        {"loop": [(20_000, -9), (70_000, -9), (70_000, 70_000), (20_000, 70_000)]},
    ]
    alone = [set(positions(store, corpus, **part)) for part in parts]
    assert all(0 < len(found) < COUNT for found in alone)
    together = {name: value for part in parts for name, value in part.items()}
    assert set(positions(store, corpus, **together)) == set.intersection(*alone) != set()


def test_a_loop_around_all_points_selects_every_one_of_twenty_thousand(store: Store, stored: Stored) -> None:
    corpus = stored.corpus(rows=[{"prompt": f"q{i}", "answer": "a"} for i in range(20_000)])
    stored.clustering(corpus)
    around = [(-1.0, -1.0), (70_000.0, -1.0), (70_000.0, 70_000.0), (-1.0, 70_000.0)]
    assert len(positions(store, corpus, loop=around)) == 20_000


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"clusters": [0]}, "has no clusters and no map yet"),
        ({"loop": [(0, 0), (1, 0), (0, 1)]}, "has no clusters and no map yet"),
        ({"flags": ["cut"]}, "check the corpus first"),
        ({"max_tokens": 5}, "No tokens were counted yet"),
        ({"saved": 99}, "Selection 99 does not exist"),
    ],
)
def test_what_is_not_there_is_named(store: Store, corpus: Corpus, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        store.selections.find(corpus.id, Query(**asked))


def test_a_cluster_beyond_the_last_is_named(store: Store, stored: Stored, corpus: Corpus) -> None:
    stored.clustering(corpus)
    with pytest.raises(UserError, match=r"There is no cluster C8\. Choose from: C1, C2"):
        store.selections.find(corpus.id, Query(clusters=[0, 7]))


def test_a_refused_query_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"`selection\.loop\.1\.0`: .*got nan\.$"):
        checked_query({"loop": [[0, 0], [float("nan"), 1], [2, 2]]})


# Names


def test_a_named_selection_stays_the_same_examples(store: Store, corpus: Corpus) -> None:
    store.exclusions.add(corpus.id, [0, 3], "copies")
    made = store.selections.add(corpus.id, "mine", Query(labels=["a"], left_out="no"))
    assert (made.count, made.words) == (18, "a; not left out")
    store.exclusions.undo(store.exclusions.all(corpus.id)[0].id)
    assert positions(store, corpus, saved=made.id) == [i for i in range(0, COUNT, 3) if i not in (0, 3)]
    assert positions(store, corpus, saved=made.id, search="kettle") == [9, 15, 21, 27, 33, 39, 45, 51, 57]
    assert [one.name for one in store.selections.all(corpus.id)] == ["mine"]


def test_a_name_is_given_once_and_not_to_nothing(store: Store, corpus: Corpus) -> None:
    store.selections.add(corpus.id, "mine", Query(labels=["a"]))
    for name, asked, words in (
        ("mine", Query(), "called 'mine' already"),
        (" \x00 ", Query(), "name is empty"),
        ("none", Query(search="zebra"), "nothing to name"),
    ):
        with pytest.raises(UserError, match=words):
            store.selections.add(corpus.id, name, asked)
    assert len(store.selections.all(corpus.id)) == 1


def test_names_are_bounded_in_number(store: Store, corpus: Corpus) -> None:
    for number in range(MOST_SELECTIONS):
        store.selections.add(corpus.id, f"n{number}", Query(rows=[number % COUNT]))
    with pytest.raises(UserError, match="200 named selections"):
        store.selections.add(corpus.id, "one more", Query())


def test_a_selection_of_another_corpus_is_refused(store: Store, stored: Stored, corpus: Corpus) -> None:
    made = store.selections.add(corpus.id, "mine", Query(labels=["a"]))
    other = stored.corpus("Other")
    with pytest.raises(UserError, match="is of another corpus"):
        store.selections.find(other.id, Query(saved=made.id))


def test_a_deleted_name_is_gone_and_its_examples_stay(store: Store, corpus: Corpus) -> None:
    made = store.selections.add(corpus.id, "mine", Query(labels=["a"]))
    before = store.changes.stamp([f"corpus-{corpus.id}"])
    store.selections.delete(made.id)
    assert store.selections.all(corpus.id) == [] and store.changes.stamp([f"corpus-{corpus.id}"]) != before
    with pytest.raises(UserError, match="does not exist"):
        store.selections.get(made.id)
    assert len(positions(store, corpus)) == COUNT


def test_names_go_with_the_rows_that_they_meant(store: Store, stored: Stored, corpus: Corpus) -> None:
    store.selections.add(corpus.id, "mine", Query(labels=["a"]))
    again = store.corpora.import_again(corpus.id, {"prompt": ["prompt"], "answer": "answer"})
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and again.job is not None and job.id == again.job.id
    found = {"examples": COUNT, "rejected": 0, "format": "JSONL"}
    store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result=found)
    assert store.selections.all(corpus.id) == []
    store.selections.add(corpus.id, "mine", Query(rows=[1]))
    store.corpora.delete(corpus.id)
    assert store.selections.all(corpus.id) == []


def test_the_mask_of_a_selection_is_its_positions(store: Store, corpus: Corpus) -> None:
    found = store.selections.find(corpus.id, Query(labels=["b"]))
    assert np.flatnonzero(found.mask).tolist() == found.positions.tolist()
