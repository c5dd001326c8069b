"""Edits of clusters in the store: what stands after each, what is taken back, and what a run keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hydralora.corpus.clusters.grouping import FOLDER
from hydralora.corpus.tasks import read_clusters
from hydralora.errors import CorpusError, UserError
from jobs.breakdown import find_breakdown, start_breakdown
from jobs.home import Home
from jobs.runner.child import Job as Child
from jobs.store.cluster_edits import MOST_EDITS
from jobs.store.records import Clustering, Corpus
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import ClusterEditRow
from jobs.tasks import _clusters
from tests.jobs.conftest import counting
from tests.studio.stored import Stored


@pytest.fixture
def stored(store: Store, home: Home) -> Stored:
    return Stored(store)


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    """60 examples of three kinds in three clusters of 20."""
    return stored.kinds()


def clusters_of(store: Store, corpus: Corpus) -> Clustering:
    return store.clusterings.clustered(corpus.id)


def as_told(clustering: Clustering) -> dict[str, Any]:
    return clustering.clusters.dump()


def test_taking_a_merge_back_leaves_everything_as_it_was(store: Store, corpus: Corpus) -> None:
    before = clusters_of(store, corpus)
    numbers = store.clusterings.numbers(before)
    edit = store.cluster_edits.merge(corpus.id, [0, 2])
    after = clusters_of(store, corpus)
    assert after.clusters.k == 2 and after.grouping == edit.grouping and (after.experts, before.experts) == (2, 3)
    store.cluster_edits.undo(corpus.id)
    again = clusters_of(store, corpus)
    assert as_told(again) == as_told(before) and (again.grouping, again.experts) == ("", 3)
    assert (store.clusterings.numbers(again) == numbers).all()


def test_edits_are_taken_back_newest_first_and_made_again_in_order(store: Store, corpus: Corpus) -> None:
    store.cluster_edits.rename(corpus.id, 0, "Sea")
    store.cluster_edits.merge(corpus.id, [0, 1])
    assert [store.cluster_edits.undo(corpus.id).action for _ in range(2)] == ["merge", "rename"]
    with pytest.raises(UserError, match="no edit of clusters to take back"):
        store.cluster_edits.undo(corpus.id)
    assert [store.cluster_edits.redo(corpus.id).action for _ in range(2)] == ["rename", "merge"]
    assert clusters_of(store, corpus).clusters.given_name(0) == "Sea"
    with pytest.raises(UserError, match="no edit to make again"):
        store.cluster_edits.redo(corpus.id)


def test_nothing_is_made_again_once_something_else_was_edited(store: Store, corpus: Corpus) -> None:
    store.cluster_edits.merge(corpus.id, [0, 1])
    store.cluster_edits.undo(corpus.id)
    store.cluster_edits.rename(corpus.id, 2, "Sky")
    with pytest.raises(UserError, match="something was edited since"):
        store.cluster_edits.redo(corpus.id)
    assert [(e.action, e.is_active) for e in clusters_of(store, corpus).edits] == [("rename", True), ("merge", False)]


def test_a_split_is_a_job_and_stands_when_it_has_succeeded(store: Store, stored: Stored, corpus: Corpus) -> None:
    edit = store.cluster_edits.split(corpus.id, 1, 2)
    assert clusters_of(store, corpus).clusters.k == 3 and clusters_of(store, corpus).edits[0].is_pending
    with pytest.raises(UserError, match="is being split"):
        store.cluster_edits.merge(corpus.id, [0, 2])
    stored.work(edit.job)
    after = clusters_of(store, corpus)
    assert after.clusters.all_numbers == [0, 1, 2, 3] and sum(after.clusters.sizes) == 60
    assert after.edits[0].details["parts"] == [1, 3] and after.experts == 4
    store.cluster_edits.undo(corpus.id)
    assert clusters_of(store, corpus).clusters.k == 3


def test_a_number_is_given_once_also_where_the_same_grouping_was_there_before(
    store: Store, stored: Stored, corpus: Corpus
) -> None:
    for name in ("Sea", ""):  # keeps the grouping that the merge comes back to
        store.cluster_edits.rename(corpus.id, 0, name)
    first = clusters_of(store, corpus).grouping
    stored.work(store.cluster_edits.split(corpus.id, 0, 2).job)
    store.cluster_edits.merge(corpus.id, [0, 3])
    assert clusters_of(store, corpus).grouping == first
    stored.work(store.cluster_edits.split(corpus.id, 0, 2).job)
    assert clusters_of(store, corpus).clusters.all_numbers == [0, 1, 2, 4]


def test_a_split_that_fails_changes_nothing_and_says_why(store: Store, stored: Stored) -> None:
    rows = [{"prompt": word, "answer": word} for word in ("moon", "boat") for _ in range(9)]
    corpus = stored.corpus(rows=rows)
    stored.work(store.clusterings.add(corpus.id, 2).job)
    stored.work(store.cluster_edits.split(corpus.id, 0, 2).job)
    after = clusters_of(store, corpus)
    assert after.clusters.k == 2 and after.edits[0].has_failed and after.to_undo is None
    assert after.edits[0].job is not None and "one distinct text" in str(after.edits[0].job.error)
    store.cluster_edits.rename(corpus.id, 0, "Moon")  # nothing waits for it


def test_a_split_that_waits_can_be_given_up(store: Store, corpus: Corpus) -> None:
    edit = store.cluster_edits.split(corpus.id, 0)
    store.cluster_edits.undo(corpus.id)
    assert edit.job is not None and store.queue.get(edit.job.id).status == JobStatus.STOPPED
    store.cluster_edits.merge(corpus.id, [0, 1])
    assert clusters_of(store, corpus).to_redo is None


def test_a_cluster_is_left_out_as_an_exclusion_with_its_name(store: Store, corpus: Corpus) -> None:
    store.cluster_edits.rename(corpus.id, 2, "Weather")
    members = np.flatnonzero(store.clusterings.numbers(clusters_of(store, corpus)) == 2).tolist()
    store.cluster_edits.exclude(corpus.id, 2)
    (exclusion,) = store.exclusions.all(corpus.id)
    assert (exclusion.reason, exclusion.count) == ('cluster "Weather"', 20)
    assert store.exclusions.excluded(corpus.id).tolist() == members
    after = clusters_of(store, corpus)
    assert after.left_out == (2,) and after.experts == 2
    store.cluster_edits.undo(corpus.id)
    assert not len(store.exclusions.excluded(corpus.id)) and clusters_of(store, corpus).experts == 3
    store.cluster_edits.redo(corpus.id)
    assert clusters_of(store, corpus).left_out == (2,)


def test_an_exclusion_taken_back_elsewhere_is_taken_back_here_too(store: Store, corpus: Corpus) -> None:
    store.cluster_edits.merge(corpus.id, [0, 1])
    store.cluster_edits.exclude(corpus.id, 2)
    store.exclusions.undo(store.exclusions.all(corpus.id)[0].id)
    after = clusters_of(store, corpus)
    assert after.left_out == () and after.to_undo is not None and after.to_undo.action == "merge"


def test_a_run_keeps_the_grouping_it_was_started_with(store: Store, stored: Stored, corpus: Corpus) -> None:
    edit = store.cluster_edits.merge(corpus.id, [0, 2])
    run = stored.run(corpus)
    merged = store.clusterings.numbers(clusters_of(store, corpus))
    store.cluster_edits.undo(corpus.id)
    stored.work(store.cluster_edits.split(corpus.id, 1, 2).job)
    analysis = store.analyses.ask(run.id, "routing")
    for job in (run.job, analysis.job):
        assert job is not None and job.payload["grouping"] == edit.grouping
        folder = _clusters(Child(store.home.root, {"kind": job.kind, "payload": job.payload, "home": store.home.root}))
        found = read_clusters(folder)
        assert found is not None and (found == merged).all()


def test_a_resumed_run_has_its_grouping_and_is_refused_where_that_is_gone(
    store: Store, stored: Stored, corpus: Corpus
) -> None:
    edit = store.cluster_edits.merge(corpus.id, [0, 2])
    run = stored.run(corpus, status=JobStatus.STOPPED)
    store.cluster_edits.undo(corpus.id)
    job = store.runs.resume(run.id).job
    assert job is not None and job.payload["grouping"] == edit.grouping
    folder = store.home.corpus(corpus.id) / FOLDER / str(edit.grouping)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(CorpusError, match="was started with is gone"):
        _clusters(Child(store.home.root, {"kind": job.kind, "payload": job.payload, "home": store.home.root}))


def test_a_look_at_another_corpus_is_asked_anew_when_its_clusters_were_edited(
    store: Store, stored: Stored, corpus: Corpus
) -> None:
    run = stored.run(stored.corpus("Own"))
    before = store.analyses.measured_on(run, corpus.id)
    edit = store.cluster_edits.merge(corpus.id, [0, 2])
    after = store.analyses.measured_on(run, corpus.id)
    assert before is not None and "grouping" not in before
    assert after == {**before, "grouping": edit.grouping}
    job = store.analyses.ask(run.id, "routing", after).job
    assert job is not None and job.payload["grouping"] == edit.grouping


def test_one_lora_is_trained_for_each_cluster_that_there_is(store: Store, stored: Stored, corpus: Corpus) -> None:
    run = stored.run(corpus)
    store.cluster_edits.merge(corpus.id, [0, 2])
    present = clusters_of(store, corpus).clusters.all_numbers
    runs = start_breakdown(store, run.id)
    assert [one.config.train.only_cluster for one in runs] == [number + 1 for number in present]
    assert [one.id for one in find_breakdown(store, run)] == [one.id for one in runs]
    store.cluster_edits.undo(corpus.id)
    assert find_breakdown(store, run) == []


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda edits, corpus: edits.split(corpus, 0, 11), r"has 20 rows; a split into 11 takes 22 at least"),
        (lambda edits, corpus: edits.split(corpus, 0, 1), "must be between 2 and 24"),
        (lambda edits, corpus: edits.split(corpus, 7), "There is no cluster C8"),
        (lambda edits, corpus: edits.rename(corpus, 0, "  "), "is called so already"),
        (lambda edits, corpus: edits.merge(corpus, [1]), "takes two clusters at least"),
        (lambda edits, corpus: edits.exclude(corpus, -1), "There is no cluster C0"),
    ],
)
def test_what_cannot_be_edited_is_refused_in_a_sentence(store: Store, corpus: Corpus, act: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        act(store.cluster_edits, corpus.id)
    assert clusters_of(store, corpus).edits == ()


def test_a_corpus_without_clusters_says_what_to_run(store: Store, stored: Stored) -> None:
    with pytest.raises(UserError, match="has no clusters yet"):
        store.cluster_edits.merge(stored.corpus().id, [0, 1])


def test_an_edit_of_clusters_that_somebody_else_edited_is_refused(store: Store, corpus: Corpus) -> None:
    stale = clusters_of(store, corpus)
    store.cluster_edits.merge(corpus.id, [0, 1])
    with pytest.raises(UserError, match="changed meanwhile"):
        store.cluster_edits._add(stale, "rename", {"number": 2, "before": "C3", "name": "x"})


def test_no_clustering_is_edited_without_end(store: Store, corpus: Corpus) -> None:
    clustering = clusters_of(store, corpus)
    with Session(store.engine) as session, session.begin():
        row = {"clustering_id": clustering.id, "corpus_id": corpus.id, "action": "rename", "undone_at": 1.0}
        details = {"number": 0, "before": "C1", "name": "x"}
        session.add_all([ClusterEditRow(**row, details=details) for _ in range(MOST_EDITS)])
    with pytest.raises(UserError, match=f"edited {MOST_EDITS} times"):
        store.cluster_edits.merge(corpus.id, [0, 1])


def test_edits_go_with_their_corpus(store: Store, corpus: Corpus) -> None:
    store.cluster_edits.merge(corpus.id, [0, 1])
    store.corpora.delete(corpus.id)
    with Session(store.engine) as session:
        assert session.scalars(select(ClusterEditRow)).all() == []


def test_clustering_again_begins_without_edits(store: Store, stored: Stored, corpus: Corpus) -> None:
    store.cluster_edits.merge(corpus.id, [0, 1])
    stored.work(store.clusterings.add(corpus.id, 3).job)
    again = clusters_of(store, corpus)
    assert again.edits == () and again.clusters.k == 3


def test_who_looks_is_told_of_an_edit(store: Store, corpus: Corpus) -> None:
    before = store.changes.stamp([f"corpus-{corpus.id}"])
    store.cluster_edits.rename(corpus.id, 0, "Sea")
    assert store.changes.stamp([f"corpus-{corpus.id}"]) != before


def test_clusters_are_read_in_few_statements_however_often_they_were_edited(store: Store, corpus: Corpus) -> None:
    for number in range(12):
        store.cluster_edits.rename(corpus.id, 0, f"name {number}")
    with counting(store) as said:
        assert clusters_of(store, corpus).clusters.given_name(0) == "name 11"
    assert len(said) <= 7, said
