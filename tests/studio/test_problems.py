"""The quality report on the page of a corpus: what it shows, what it leaves out, and what it takes back."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import pytest
from fastapi.testclient import TestClient

from hydralora.config import TrainConfig
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.shortening import shorten_rows
from hydralora.errors import UserError
from jobs.store.records import Corpus
from jobs.store.store import Store
from studio.pages.corpora.page import CorporaPage
from studio.pages.corpora.problems import CHECK_SAYS, NO_BASE, Problems
from studio.pages.new_run.data import DataNote
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def page(store: Store) -> CorporaPage:
    with gr.Blocks() as blocks:
        return CorporaPage(blocks, store)


@pytest.fixture
def part(page: CorporaPage) -> Problems:
    return page.problems


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    """Six examples, of which two are copies of the first."""
    rows = [{"prompt": f"{EVIL} question {i} about the number {i}?", "answer": f"The answer is {i}."} for i in range(4)]
    return stored.corpus(rows=[*rows, rows[0], rows[0]])


def check(stored: Stored, corpus: Corpus) -> None:
    """What the job of a check does, and its end."""
    selection = stored.store.exclusions.selection(corpus.id)
    job = stored.store.checks.add(corpus.id)
    train = TrainConfig(selection=selection, held_out_fraction=0.0)
    report = check_corpus(stored.home.corpus(corpus.id), train)
    stored.end(job, report.row())


def test_a_corpus_that_was_not_checked_says_what_a_check_finds(part: Problems, corpus: Corpus) -> None:
    changes = part.draw(corpus)
    assert CHECK_SAYS.split("“")[0] in changes[part.report] and not changes[part.acting].visible


def test_a_check_is_queued_for_the_base_and_the_length_of_the_form(
    part: Problems, stored: Stored, corpus: Corpus
) -> None:
    part.start(asking(corpus=corpus.id), "starter", 64)
    job = stored.store.checks.job(corpus.id)
    assert job is not None and (job.payload["base"], job.payload["train"]["max_length"]) == ("starter", 64)
    part.start(asking(corpus=corpus.id), NO_BASE, None)
    assert (stored.store.checks.job(corpus.id) or job).payload["base"] == ""


def test_a_waiting_check_says_so(part: Problems, stored: Stored, corpus: Corpus) -> None:
    part.start(asking(corpus=corpus.id), NO_BASE, 64)
    assert "Waiting for its turn" in part.draw(corpus)[part.report]


def test_the_report_names_each_problem_with_its_remedy(part: Problems, stored: Stored, corpus: Corpus) -> None:
    check(stored, corpus)
    changes = part.draw(corpus)
    assert "2 examples are copies of another." in changes[part.report]
    assert ("2 examples are copies of another.", "copies") in changes[part.finding].choices
    assert part.pick(asking(corpus=corpus.id), "copies")[part.exclude].value == "Keep one of each (2)"


def test_examples_of_a_problem_are_shown_as_text(part: Problems, stored: Stored, corpus: Corpus) -> None:
    check(stored, corpus)
    shown = part.show_examples(asking(corpus=corpus.id), "copies")[part.examples]
    assert "&lt;script&gt;" in shown and "<script" not in shown


def test_leaving_out_can_be_taken_back_and_the_report_says_that_it_is_older(
    part: Problems, stored: Stored, corpus: Corpus
) -> None:
    check(stored, corpus)
    part.leave_out(asking(corpus=corpus.id), "copies")
    assert stored.store.exclusions.excluded(corpus.id).tolist() == [4, 5]
    changes = part.draw(corpus)
    assert "Check again" in changes[part.report] and "2 examples are left out of every new run" in changes[part.report]
    exclusion = changes[part.step].value
    part.toggle(asking(corpus=corpus.id), exclusion)
    assert stored.store.exclusions.excluded(corpus.id).tolist() == []
    assert "Check again" not in part.draw(corpus)[part.report]
    part.toggle(asking(corpus=corpus.id), exclusion)
    assert stored.store.exclusions.excluded(corpus.id).tolist() == [4, 5]


@pytest.mark.parametrize("kind", ["leaks", None, 7, ["copies"], {"path": "/etc/passwd"}])
def test_a_problem_that_was_not_found_is_refused(part: Problems, stored: Stored, corpus: Corpus, kind: Any) -> None:
    check(stored, corpus)
    for handler in (part.show_examples, part.leave_out, part.pick):
        with pytest.raises(UserError, match="no such problem"):
            handler(asking(corpus=corpus.id), kind)


def test_an_exclusion_of_another_corpus_is_not_taken_back(part: Problems, stored: Stored, corpus: Corpus) -> None:
    other = stored.corpus("Other")
    theirs = stored.store.exclusions.add(other.id, [1], "theirs")
    with pytest.raises(UserError, match="Choose what to take back"):
        part.toggle(asking(corpus=corpus.id), theirs.id)
    assert stored.store.exclusions.excluded(other.id).tolist() == [1]


def test_the_page_looks_anew_when_something_is_left_out(page: CorporaPage, stored: Stored, corpus: Corpus) -> None:
    before = page.draw(asking(corpus=corpus.id))[page.stamp]
    stored.store.exclusions.add(corpus.id, [1], "by hand")
    assert page.draw(asking(corpus=corpus.id), before)[page.stamp] != before


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_what_is_not_left_out_can_be_downloaded(client: TestClient, stored: Stored, corpus: Corpus, name: str) -> None:
    stored.store.exclusions.add(corpus.id, [4, 5], "copies")
    reply = client.get(f"/ui/corpora/{corpus.id}/examples.{name}")
    assert reply.status_code == 200 and f"corpus-{corpus.id}.{name}" in reply.headers["content-disposition"]
    file = stored.home.root / f"back.{name}"
    file.write_bytes(reply.content)
    assert import_corpus([file], stored.home.root / "back").examples == 4


@pytest.mark.parametrize("address", ["/ui/corpora/{}/examples.xlsx", "/ui/corpora/999/examples.csv"])
def test_a_download_of_nothing_is_refused_in_a_sentence(client: TestClient, corpus: Corpus, address: str) -> None:
    reply = client.get(address.format(corpus.id))
    assert 400 <= reply.status_code < 500 and reply.json()["detail"]


def test_new_run_tells_what_a_report_of_the_same_settings_found(store: Store, stored: Stored, corpus: Corpus) -> None:
    with gr.Blocks() as blocks:
        part = DataNote(blocks, store)
    asked = (64, "split", "all", 0.0, "prompt", "answers")
    assert part.draw(corpus.id, "starter", *asked)[part.check].visible
    part.start(corpus.id, "starter", *asked)
    job = store.checks.job(corpus.id)
    assert job is not None and "Waiting" in part.draw(corpus.id, "starter", *asked)[part.note]
    train = TrainConfig(**job.payload["train"])
    stored.end(job, check_corpus(stored.home.corpus(corpus.id), train, base=job.payload["base"]).row())
    told = part.draw(corpus.id, "starter", *asked)
    assert not told[part.check].visible and "Every example is trained on whole" in told[part.note]
    for other in (
        (32, *asked[1:]),
        (*asked[:1], "cut", *asked[2:]),
        (*asked[:3], 0.5, *asked[4:]),
        (*asked[:4], "row", *asked[5:]),
    ):
        assert part.draw(corpus.id, "starter", *other)[part.check].visible


def test_new_run_names_what_would_be_cut(store: Store, stored: Stored, corpus: Corpus) -> None:
    with gr.Blocks() as blocks:
        part = DataNote(blocks, store)
    asked = (8, "split", "all", 0.0, "prompt", "answers")
    part.start(corpus.id, "starter", *asked)
    job = store.checks.job(corpus.id)
    assert job is not None
    train = TrainConfig(**job.payload["train"])
    stored.end(job, check_corpus(stored.home.corpus(corpus.id), train, base=job.payload["base"]).row())
    assert "6 examples would be left out of training" in part.draw(corpus.id, "starter", *asked)[part.note]


def test_a_check_looks_into_the_other_corpora_that_are_ready(stored: Stored, corpus: Corpus) -> None:
    other, waiting = stored.corpus(), stored.store.corpora.draft_of_hub("somebody/faq")
    payload = stored.store.checks.add(corpus.id).payload
    named = set(payload["others"].values())
    assert payload["others"][f"{other.name} ({other.id})"] == other.id and not named & {waiting.id, corpus.id}


@pytest.fixture
def long(stored: Stored) -> Corpus:
    """Six examples, of which two have an answer that is cut, and their report."""
    rows = [{"prompt": f"Question {i}?", "answer": f"The answer is {i}. " * (60 if i < 2 else 1)} for i in range(6)]
    corpus = stored.corpus(rows=rows)
    job = stored.store.checks.add(corpus.id, base="starter", max_length=64)
    train = TrainConfig(max_length=64, held_out_fraction=0.0)
    stored.end(job, check_corpus(stored.home.corpus(corpus.id), train, base="starter").row())
    return corpus


def shorten(part: Problems, stored: Stored, corpus: Corpus) -> None:
    """Press the button, and what its job does."""
    part.make_shorter(asking(corpus=corpus.id), "cut")
    job = stored.store.shortenings.job(corpus.id)
    assert job is not None
    train = TrainConfig(**job.payload["train"])
    stored.end(job, shorten_rows(stored.home.corpus(corpus.id), np.arange(2), train, "starter").dump())


def test_what_is_too_long_is_shortened_by_a_button_and_taken_back_by_another(
    part: Problems, stored: Stored, long: Corpus
) -> None:
    drawn = part.draw(long)
    assert (drawn[part.shorten].value, drawn[part.shorten].visible) == ("Shorten (2)", True)
    shorten(part, stored, long)
    changes = part.draw(long)
    step = changes[part.step].value
    assert "Examples were shortened" in changes[part.report] and step.startswith("shortening ")
    part.toggle(asking(corpus=long.id), step)
    assert stored.store.edits.count(long.id) == 0 and "taken back" in part.draw(long)[part.report]
    part.toggle(asking(corpus=long.id), step)
    assert stored.store.edits.count(long.id) == 2


def test_no_button_shortens_what_shortening_does_not_mend(part: Problems, stored: Stored, corpus: Corpus) -> None:
    check(stored, corpus)
    assert not part.draw(corpus)[part.shorten].visible
    with pytest.raises(UserError, match="Shortening is a remedy for"):
        part.make_shorter(asking(corpus=corpus.id), "copies")


def test_a_waiting_shortening_is_shown_as_waiting(part: Problems, stored: Stored, long: Corpus) -> None:
    part.make_shorter(asking(corpus=long.id), "cut")
    assert "Waiting for its turn" in part.draw(long)[part.report]


def test_a_shortening_of_another_corpus_is_not_taken_back(
    part: Problems, stored: Stored, long: Corpus, corpus: Corpus
) -> None:
    shorten(part, stored, long)
    step = part.draw(long)[part.step].value
    with pytest.raises(UserError, match="Choose what to take back"):
        part.toggle(asking(corpus=corpus.id), step)
    assert stored.store.edits.count(long.id) == 2


def test_a_shortening_that_could_shorten_nothing_says_so(part: Problems, stored: Stored, long: Corpus) -> None:
    part.make_shorter(asking(corpus=long.id), "cut")
    job = stored.store.shortenings.job(long.id)
    assert job is not None
    train = TrainConfig(**{**job.payload["train"], "max_length": 100_000})  # where all of them fit
    found = shorten_rows(stored.home.corpus(long.id), np.arange(2), train, "starter")
    stored.end(job, found.model_copy(update={"positions": [], "left": 2}).dump())
    drawn = part.draw(long)
    assert "Nothing was shortened" in drawn[part.report] and stored.store.shortenings.all(long.id) == []
