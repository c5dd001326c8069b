"""Examples are left out, never deleted: each step is counted, has a reason, and can be undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.selection import read_excluded
from hydralora.errors import UserError
from jobs.store.records import Corpus as CorpusRecord
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.hydralora.conftest import easy_rows, write_lines

pytestmark = pytest.mark.databases


@pytest.fixture
def corpus(store: Store, tmp_path: Path) -> CorpusRecord:
    """64 examples, imported."""
    file = write_lines(tmp_path / "easy.jsonl", easy_rows())
    corpus = store.corpora.add("easy", [file])
    manifest = import_corpus([file], store.home.corpus(corpus.id))
    job = store.attempts.claim("w", "here", "light")
    assert job is not None
    store.attempts.finish(job, JobStatus.SUCCEEDED, 0.0, result=manifest.row())
    return store.corpora.get(corpus.id)


def test_each_step_counts_what_it_newly_leaves_out(store: Store, corpus: CorpusRecord) -> None:
    first = store.exclusions.add(corpus.id, [5, 3, 4, 3], "copies")
    second = store.exclusions.add(corpus.id, [4, 5, 6], "cluster C2")
    assert (first.count, second.count) == (3, 1)
    assert store.exclusions.excluded(corpus.id).tolist() == [3, 4, 5, 6]
    assert [(e.reason, e.count) for e in store.exclusions.all(corpus.id)] == [("cluster C2", 1), ("copies", 3)]


def test_a_step_can_be_undone_and_done_again_whatever_came_after(store: Store, corpus: CorpusRecord) -> None:
    first = store.exclusions.add(corpus.id, [1, 2], "copies")
    store.exclusions.add(corpus.id, [7], "cluster C2")
    assert store.exclusions.undo(first.id).undone_at is not None
    assert store.exclusions.excluded(corpus.id).tolist() == [7]
    assert store.exclusions.redo(first.id).undone_at is None
    assert store.exclusions.excluded(corpus.id).tolist() == [1, 2, 7]


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([], "no example to leave out"),
        ([64], "Example 64 is outside corpus 'easy' of 64"),
        ([-1, 2], "Example -1 is outside"),
        (list(range(64)), "would leave nothing"),
    ],
)
def test_what_cannot_be_left_out_is_refused_in_a_sentence(
    store: Store, corpus: CorpusRecord, positions: list[int], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        store.exclusions.add(corpus.id, positions, "rubbish")
    assert store.exclusions.all(corpus.id) == []


def test_a_run_keeps_the_list_it_began_with(store: Store, corpus: CorpusRecord) -> None:
    store.exclusions.add(corpus.id, [1, 2, 3], "copies")
    run = store.runs.start(corpus.id, {"train": {"selection": ""}})
    store.exclusions.add(corpus.id, [10], "another")
    is_excluded = read_excluded(Corpus(store.home.corpus(corpus.id)), store.runs.get(run.id).config.train.selection)
    assert np.flatnonzero(is_excluded).tolist() == [1, 2, 3]


def read_again(store: Store, corpus: CorpusRecord, status: JobStatus) -> None:
    """Ask for another import, and end it so."""
    again = store.corpora.import_again(corpus.id, {"prompt": ["prompt"], "answer": "answer"})
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and again.job is not None and job.id == again.job.id
    found = {"examples": 64, "rejected": 0, "format": "JSONL"} if status == JobStatus.SUCCEEDED else None
    store.attempts.finish(job, status, 0.0, result=found)


def test_a_corpus_read_again_leaves_nothing_out(store: Store, corpus: CorpusRecord) -> None:
    store.exclusions.add(corpus.id, [1], "copies")
    read_again(store, corpus, JobStatus.SUCCEEDED)
    assert store.exclusions.all(corpus.id) == []


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.STOPPED])
def test_a_corpus_that_could_not_be_read_again_leaves_out_what_it_did(
    store: Store, corpus: CorpusRecord, status: JobStatus
) -> None:
    store.exclusions.add(corpus.id, [1], "copies")
    read_again(store, corpus, status)
    assert store.exclusions.excluded(corpus.id).tolist() == [1]


def test_nothing_is_left_out_of_a_corpus_and_no_run_begins_while_it_is_read_again(
    store: Store, corpus: CorpusRecord
) -> None:
    store.corpora.import_again(corpus.id, {"prompt": ["prompt"], "answer": "answer"})
    with pytest.raises(UserError, match="is not ready"):
        store.exclusions.add(corpus.id, [1], "copies")
    with pytest.raises(UserError, match="is not ready"):
        store.runs.start(corpus.id, {})


def test_a_corpus_with_exclusions_can_be_deleted(store: Store, corpus: CorpusRecord) -> None:
    store.exclusions.add(corpus.id, [1], "copies")
    store.corpora.delete(corpus.id)
    assert store.exclusions.all(corpus.id) == []


def test_an_example_that_two_steps_leave_out_stays_out_when_one_is_undone(store: Store, corpus: CorpusRecord) -> None:
    first = store.exclusions.add(corpus.id, [5], "copies")
    store.exclusions.add(corpus.id, [5, 6], "cluster C2")
    store.exclusions.undo(first.id)
    assert store.exclusions.excluded(corpus.id).tolist() == [5, 6]


def test_what_is_left_out_again_must_leave_something(store: Store, corpus: CorpusRecord) -> None:
    first = store.exclusions.add(corpus.id, range(32), "half")
    store.exclusions.undo(first.id)
    store.exclusions.add(corpus.id, range(32, 64), "the other half")
    with pytest.raises(UserError, match="would leave nothing"):
        store.exclusions.redo(first.id)
    assert store.exclusions.excluded(corpus.id).tolist() == list(range(32, 64))


def test_a_corpus_read_again_has_no_clusters_of_its_former_rows(store: Store, corpus: CorpusRecord) -> None:
    clustering = store.clusterings.add(corpus.id, 2)
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and job.id == (clustering.job and clustering.job.id)
    store.attempts.finish(job, JobStatus.STOPPED, 0.0)
    store.corpora.import_again(corpus.id, {"prompt": ["prompt"], "answer": "answer"})
    assert store.clusterings.latest(corpus.id) is None


def test_a_run_can_leave_out_what_another_one_does(store: Store, corpus: CorpusRecord) -> None:
    store.exclusions.add(corpus.id, [1, 2], "copies")
    first = store.runs.start(corpus.id, {})
    store.exclusions.add(corpus.id, [9], "more")
    second = store.runs.start(corpus.id, {}, selection=first.config.train.selection)
    assert second.config.train.selection == first.config.train.selection != store.exclusions.name(corpus.id)
