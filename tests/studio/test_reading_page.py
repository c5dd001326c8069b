"""How files are read, on the page: what is shown before an import, what may be chosen, and what is refused."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from hydralora.corpus.preview import preview_files
from hydralora.errors import UserError
from hydralora.results import Preview, Roles
from jobs.store.records import Corpus
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.pages.corpora.page import CorporaPage
from studio.pages.corpora.reading_views import MOST_CHOICES
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking

FAQ = "Ticket;Customer question;What we reply;Team\n" + "".join(
    f"T-{1000 + i};Where is order {i}?;It is on its way, parcel {i}.;{('Shipping', 'Care')[i % 2]}\n" for i in range(12)
)
ATTACK = "<img src=x onerror=alert(1)>'\"`${7*7}"


@pytest.fixture
def page(store: Store) -> CorporaPage:
    with gr.Blocks() as blocks:
        return CorporaPage(blocks, store)


class Drafts:
    """Takes files in as the page does, and ends the looks at them as the worker does, without tokens."""

    def __init__(self, stored: Stored) -> None:
        self.stored, self.store = stored, stored.store

    def take_in(self, text: str, name: str = "faq.csv") -> Corpus:
        (path := self.store.home.root / name).write_text(text, "utf-8")
        return self.look(self.store.corpora.draft("FAQ", [path]).id)

    def look(self, corpus_id: int) -> Corpus:
        reading = self.store.corpora.reading(corpus_id)
        waiting = reading.waits_for
        assert waiting is not None
        paths = [self.store.home.uploads / place for place in waiting.payload["files"]]
        roles = Roles(**reading.given) if reading.given else None
        found = preview_files(paths, roles=roles, options=reading.options)
        self.stored.end(waiting, found.row())
        for job in self.store.queue.jobs(statuses=[JobStatus.QUEUED], kind="render"):
            self.store.queue.stop(job.id)
        return self.store.corpora.get(corpus_id)


@pytest.fixture
def drafts(stored: Stored) -> Drafts:
    return Drafts(stored)


def choose(page: CorporaPage, corpus: Corpus, name: str, value: str, of: object = None) -> Any:
    """A select of the page is changed."""
    source = page.store.corpora.reading(corpus.id).source
    sent = {"name": name, "of": str(source and source.id) if of is None else of, "value": value}
    return page.reading.choose(asking(corpus=corpus.id), SimpleNamespace(_data=sent))  # type: ignore[arg-type]


def selected(html: str, label: str) -> str:
    """What the select with this label shows."""
    return html.split(f"aria-label='Use of column {label}'")[1].split("' selected")[0].rsplit("value='", 1)[1]


def test_a_draft_shows_columns_reasons_and_examples(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    drawn = page.draw(asking(corpus=corpus.id))
    assert "not imported yet" in drawn[page.head] and not drawn[page.imported].visible
    changes = page.fill_reading(asking(corpus=corpus.id))
    form = changes[page.reading.form]
    assert [selected(form, name) for name in ("Ticket", "Customer question", "Team")] == ["not used", "prompt", "label"]
    assert "delimiter semicolon" in form and "Not used: Ticket." in form
    assert "<span class='learnt'>It is on its way, parcel 0.</span>" in form
    assert "Nothing is imported yet" in changes[page.reading.verdict]
    assert changes[page.reading.begin].visible and changes[page.reading.begin].interactive


def test_the_list_says_that_a_draft_waits(page: CorporaPage, drafts: Drafts) -> None:
    drafts.take_in(FAQ)
    assert "not imported yet" in page.draw(asking())[page.table]


def test_a_chosen_use_is_kept_and_the_others_stay(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    shown = choose(page, corpus, "column 0 3", "prompt")[page.reading.form]
    assert selected(shown, "Team") == "prompt", "before anything was looked at again"
    drafts.look(corpus.id)
    form = page.fill_reading(asking(corpus=corpus.id))[page.reading.form]
    assert [selected(form, n) for n in ("Customer question", "Team", "What we reply")] == ["prompt", "prompt", "answer"]
    assert "Prompt, part 2" in form and "Where is order 0?\nShipping" in form
    assert page.store.corpora.reading(corpus.id).roles.prompt == ("Customer question", "Team")


def test_the_only_answer_moves_when_another_column_is_chosen(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    form = choose(page, corpus, "column 0 3", "answer")[page.reading.form]
    assert selected(form, "Team") == "answer" and selected(form, "What we reply") == "not used"


def test_plain_text_leaves_neither_prompt_nor_answer(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    choose(page, corpus, "column 0 2", "text")
    drafts.look(corpus.id)
    reading = page.store.corpora.reading(corpus.id)
    assert (reading.roles.text, reading.roles.prompt) == ("What we reply", ())
    assert reading.preview is not None and reading.preview.tables[0].problem == ""


def test_what_cannot_be_read_waits_for_its_columns(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in("width,height\n" + "".join(f"{i},{i * i}\n" for i in range(9)))
    assert not page.fill_reading(asking(corpus=corpus.id))[page.reading.begin].interactive
    for column, use in (("column 0 0", "prompt"), ("column 0 1", "answer")):
        choose(page, corpus, column, use)
        drafts.look(corpus.id)
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert changes[page.reading.begin].interactive and "--roles prompt=width" in changes[page.reading.command]


def test_one_example_is_no_corpus(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in("question,answer\nWhere is it?,There it is.\n")
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert "a corpus needs at least" in changes[page.reading.state] and not changes[page.reading.begin].interactive


def test_import_reads_the_files_as_they_are_shown(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    choose(page, corpus, "column 0 3", "not used")
    choose(page, corpus, "option answers", "each")
    drafts.look(corpus.id)
    page.reading.import_files(asking(corpus=corpus.id))
    job = page.store.corpora.get(corpus.id).job
    assert job is not None and (job.kind, job.payload["options"]["answers"]) == ("ingest", "each")
    assert job.payload["roles"]["unused"] == ["Ticket", "Team"]
    assert not page.fill_reading(asking(corpus=corpus.id))[page.reading.begin].visible, "it is being read"


def test_an_imported_corpus_says_what_was_decided_and_can_be_corrected(page: CorporaPage, stored: Stored) -> None:
    corpus = stored.corpus(rows=[{"prompt": f"q {i}", "answer": "a", "note": f"n{i} x"} for i in range(8)])
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert "All 8 rows read. note is not used." in changes[page.reading.verdict]
    assert not changes[page.reading.fold].open and changes[page.reading.look].visible
    page.reading.look_again(asking(corpus=corpus.id))
    Drafts(stored).look(corpus.id)
    assert page.store.corpora.get(corpus.id).examples == 8
    again = page.fill_reading(asking(corpus=corpus.id))[page.reading.begin]
    assert again.visible and again.value == "Read the files again"


def test_a_failed_import_is_corrected_from_the_kept_files(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    page.reading.import_files(asking(corpus=corpus.id))
    drafts.stored.end(page.store.corpora.get(corpus.id).job, status=JobStatus.FAILED, error="No usable example.")
    assert "No usable example" in page.draw(asking(corpus=corpus.id))[page.about]
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert changes[page.reading.fold].open and changes[page.reading.begin].value == "Read the files again"
    page.reading.import_files(asking(corpus=corpus.id))
    job = page.store.corpora.get(corpus.id).job
    assert job is not None and job.status == JobStatus.QUEUED


def test_a_file_that_cannot_be_looked_at_says_why(page: CorporaPage, drafts: Drafts) -> None:
    (path := drafts.store.home.root / "empty.csv").write_bytes(b"")
    corpus = drafts.store.corpora.draft("Empty", [path])
    assert "Waiting" in page.fill_reading(asking(corpus=corpus.id))[page.reading.state]
    drafts.stored.end(corpus.job, status=JobStatus.FAILED, error="empty.csv is empty. Choose another file.")
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert "empty.csv is empty" in changes[page.reading.state] and not changes[page.reading.begin].visible


def test_files_that_a_run_uses_are_not_read_again(page: CorporaPage, stored: Stored) -> None:
    corpus = stored.corpus()
    stored.run(corpus)
    with pytest.raises(UserError, match="is used by 1 run"):
        page.reading.import_files(asking(corpus=corpus.id))


def test_a_look_that_failed_says_why_and_cannot_be_imported(page: CorporaPage, drafts: Drafts) -> None:
    corpus = drafts.take_in(FAQ)
    choose(page, corpus, "column 0 0", "id")
    waiting = page.store.corpora.reading(corpus.id).waits_for
    for job in page.store.queue.jobs(statuses=[JobStatus.QUEUED], kind="render"):
        page.store.queue.stop(job.id)
    drafts.stored.end(waiting, status=JobStatus.FAILED, error="The disk is full.")
    changes = page.fill_reading(asking(corpus=corpus.id))
    assert "The disk is full." in changes[page.reading.state] and not changes[page.reading.begin].interactive


# What a visitor sends is hostile


@pytest.mark.parametrize(
    "name", ["column 0 99", "column 9 0", "column -1 0", "column 0", "option secret", "", "x" * 99]
)
def test_a_choice_that_is_not_there_is_refused(page: CorporaPage, drafts: Drafts, name: str) -> None:
    corpus = drafts.take_in(FAQ)
    with pytest.raises(UserError, match="Reload the page and choose again"):
        choose(page, corpus, name, "prompt")


@pytest.mark.parametrize("name, value", [("column 0 0", "unused"), ("column 0 0", ""), ("option answers", "all")])
def test_a_value_that_a_choice_has_not_is_refused(page: CorporaPage, drafts: Drafts, name: str, value: str) -> None:
    corpus = drafts.take_in(FAQ)
    with pytest.raises(UserError, match="Choose one of"):
        choose(page, corpus, name, value)


@pytest.mark.parametrize("sent", [None, [], "x", {"name": ["column"], "of": {}, "value": 3}])
def test_an_event_of_another_form_is_refused(page: CorporaPage, drafts: Drafts, sent: Any) -> None:
    corpus = drafts.take_in(FAQ)
    with pytest.raises(UserError, match="Choose again"):
        page.reading.choose(asking(corpus=corpus.id), SimpleNamespace(_data=sent))  # type: ignore[arg-type]


def test_a_choice_for_columns_that_were_read_anew_is_refused(page: CorporaPage, drafts: Drafts) -> None:
    corpus, other = drafts.take_in(FAQ), drafts.take_in(FAQ)
    source = page.store.corpora.reading(other.id).source
    assert source is not None
    with pytest.raises(UserError, match="read anew meanwhile"):
        choose(page, corpus, "column 0 0", "prompt", of=str(source.id))


def test_names_and_values_are_shown_and_never_run(page: CorporaPage, drafts: Drafts) -> None:
    quoted = ATTACK.replace('"', '""')
    rows = "".join(f'"{quoted}","What is {quoted} {i}?","It is {quoted}."\n' for i in range(9))
    corpus = drafts.take_in(f'"{quoted}",question,answer\n{rows}')
    changes = page.fill_reading(asking(corpus=corpus.id))
    html = "".join(str(changes[part]) for part in (page.reading.form, page.reading.verdict, page.reading.command))
    assert "onerror=alert" in html and "<img" not in html and "onerror=alert(1)>'" not in html


def test_a_thousand_columns_are_named_and_forty_can_be_chosen(page: CorporaPage, drafts: Drafts) -> None:
    head = ",".join(["question", "answer", *(f"c{i}" for i in range(998))])
    row = ",".join(["Where is it?", "There it is.", *("7" for _ in range(998))])
    corpus = drafts.take_in("\n".join([head, *[row] * 9]) + "\n")
    form = page.fill_reading(asking(corpus=corpus.id))[page.reading.form]
    assert form.count("aria-label='Use of column") == MOST_CHOICES
    assert "c0, c1," in form and "and 798 more" in form


def test_a_preview_is_read_as_its_type(drafts: Drafts) -> None:
    reading = drafts.store.corpora.reading(drafts.take_in(FAQ).id)
    assert isinstance(reading.preview, Preview) and reading.files == ["faq.csv"]
    assert reading.jobs[0].finished_at is not None and reading.jobs[0].finished_at <= time.time()
