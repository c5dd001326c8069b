"""What one job shortens becomes edits: not of rows that were edited meanwhile, nor of rows that were read again."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.shortening import shorten_rows
from hydralora.errors import DamagedError, UserError
from hydralora.results import Shortened
from jobs.store.edits import MOST_EDITS
from jobs.store.records import Corpus as CorpusRecord
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import EditRow
from tests.hydralora.conftest import write_lines

LONG = 3  # rows of it


@pytest.fixture
def corpus(store: Store, tmp_path: Path) -> CorpusRecord:
    """Eight examples of which three would be cut, and the report that says so."""
    rows = [{"prompt": f"Which {i}?", "answer": f"Number {i}. " * (60 if i < LONG else 1)} for i in range(8)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    corpus = store.corpora.add("rows", [file])
    manifest = import_corpus([file], store.home.corpus(corpus.id))
    finish(store, "ingest", manifest.row())
    store.checks.add(corpus.id, base="starter", max_length=64)
    report = check_corpus(store.home.corpus(corpus.id), TrainConfig(max_length=64), base="starter")
    finish(store, "check", report.row())
    return store.corpora.get(corpus.id)


def finish(store: Store, kind: str, result: dict[str, object]) -> None:
    job = store.attempts.claim("w", "here", "light")
    assert job is not None and job.kind == kind
    assert store.attempts.finish(job, JobStatus.SUCCEEDED, time.time(), result=result)


def work(store: Store, corpus: CorpusRecord, job: Job) -> Shortened:
    """What the job does, without its end."""
    train = TrainConfig(**job.payload["train"])
    return shorten_rows(store.home.corpus(corpus.id), np.arange(LONG), train, "starter")


def answers(store: Store, corpus: CorpusRecord) -> list[int]:
    return [len(example.answer) for example in Corpus(store.home.corpus(corpus.id))]


def test_every_row_is_an_edit_that_can_be_undone_alone(store: Store, corpus: CorpusRecord) -> None:
    finish(store, "shorten", work(store, corpus, store.shortenings.add(corpus.id, "cut")).dump())
    assert [edit.position for edit in store.edits.all(corpus.id)] == [2, 1, 0]
    before = answers(store, corpus)
    store.edits.undo(store.edits.all(corpus.id)[0].id)
    assert [a != b for a, b in zip(answers(store, corpus), before, strict=True)] == [False] * 2 + [True] + [False] * 5
    assert [one.undone_at for one in store.shortenings.all(corpus.id)] == [None]


def test_a_row_that_was_edited_meanwhile_stays_as_it_was_left(store: Store, corpus: CorpusRecord) -> None:
    found = work(store, corpus, store.shortenings.add(corpus.id, "cut"))
    store.edits.add(corpus.id, 1, "Which 1?", "By hand.")
    finish(store, "shorten", found.dump())
    assert Corpus(store.home.corpus(corpus.id)).take([1])[0].answer == "By hand."
    assert store.shortenings.all(corpus.id)[0].count == LONG - 1


def test_rows_that_were_read_again_meanwhile_are_not_touched(store: Store, corpus: CorpusRecord) -> None:
    found = work(store, corpus, store.shortenings.add(corpus.id, "cut"))
    finish(store, "shorten", found.model_copy(update={"corpus_hash": "another"}).dump())
    assert store.edits.all(corpus.id) == [] and store.shortenings.all(corpus.id) == []


def test_more_edits_than_a_corpus_may_have_are_refused_before_the_work(store: Store, corpus: CorpusRecord) -> None:
    with store.edits._rows.writing() as session:
        row = {"corpus_id": corpus.id, "position": 7, "prompt": "Which 7?", "answer": "7", "undone_at": 1.0}
        session.add_all([EditRow(**row) for _ in range(MOST_EDITS - LONG + 1)])
    with pytest.raises(UserError, match=f"{LONG} would come; {MOST_EDITS:,} are the most"):
        store.shortenings.add(corpus.id, "cut")
    assert store.shortenings.job(corpus.id) is None


@pytest.mark.parametrize(("kind", "words"), [("copies", "found no 'copies'"), ("unfit", "found no 'unfit'")])
def test_what_the_check_did_not_find_is_not_shortened(
    store: Store, corpus: CorpusRecord, kind: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        store.shortenings.add(corpus.id, kind)


def test_a_shortening_that_does_not_exist_is_not_undone(store: Store, corpus: CorpusRecord) -> None:
    for wrong in (0, 99, -1, 2**70):
        with pytest.raises(UserError, match="does not exist"):
            store.shortenings.undo(wrong)


def test_a_result_whose_rows_are_gone_ends_its_job_and_does_not_wait_for_ever(
    store: Store, corpus: CorpusRecord
) -> None:
    found = work(store, corpus, store.shortenings.add(corpus.id, "cut"))
    (store.home.corpus(corpus.id) / "edits" / f"{found.layer}.parquet").unlink()
    with pytest.raises(DamagedError, match="cannot be read as they were"):
        finish(store, "shorten", found.dump())
