"""The top of an opened corpus: what a run would take of it, and how each part stands."""

from __future__ import annotations

from hydralora.config import TrainConfig
from hydralora.corpus.quality.report import check_corpus
from studio.pages.corpora.steps import opening
from tests.studio.stored import Stored

ROWS = [{"prompt": f"question {i} about {i * 7}?", "answer": "n/a" if i == 3 else f"answer {i}"} for i in range(20)]


def check(stored: Stored, corpus_id: int) -> None:
    """What the job of a check does, and its end."""
    selection = stored.store.exclusions.selection(corpus_id)
    job = stored.store.checks.add(corpus_id)
    report = check_corpus(stored.home.corpus(corpus_id), TrainConfig(selection=selection, held_out_fraction=0.2))
    stored.end(job, report.row())


def test_a_corpus_that_nobody_looked_at_says_what_was_not_done_yet(stored: Stored) -> None:
    top = opening(stored.store, stored.corpus("Fresh", ROWS))
    assert "20 examples" in top and "not checked" in top and "not clustered" in top and "understood" in top


def test_after_a_check_the_numbers_of_a_run_and_the_grave_problems_are_told(stored: Stored) -> None:
    corpus = stored.corpus("Checked", ROWS)
    check(stored, corpus.id)
    top = opening(stored.store, corpus)
    report = stored.store.checks.latest(corpus.id)
    assert report is not None and f"{report.train} to train on" in top and f"{report.held_out} held out" in top
    assert "<span class='bad'>1 grave" in top


def test_what_was_left_out_since_is_counted_and_asks_for_another_check(stored: Stored) -> None:
    corpus = stored.corpus("Changed", ROWS)
    check(stored, corpus.id)
    stored.store.exclusions.add(corpus.id, [0, 1], "by hand")
    top = opening(stored.store, corpus)
    assert "18 examples" in top and "2 left out" in top and "check again" in top


def test_a_row_that_was_edited_since_asks_for_another_check(stored: Stored) -> None:
    corpus = stored.corpus("Edited", ROWS)
    check(stored, corpus.id)
    stored.store.edits.add(corpus.id, 0, "Another question?", "Another answer.")
    assert "check again" in opening(stored.store, corpus)


def test_the_number_of_experts_says_whether_it_was_chosen(stored: Stored) -> None:
    corpus = stored.corpus("Clustered", ROWS)
    stored.clustering(corpus)
    found = stored.store.clusterings.latest(corpus.id, finished=True)
    assert found is not None and f"{found.experts}, " in opening(stored.store, corpus)


def test_a_draft_has_neither_numbers_nor_parts(stored: Stored) -> None:
    draft = stored.store.corpora.draft_of_hub("somebody/faq")
    assert "hy-steps" not in opening(stored.store, draft) and "hy-go" not in opening(stored.store, draft)
