"""Rows are edited through the store, the page and commands: shown as edited, listed, undone, and read by every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from hydralora import limits
from hydralora.config import TrainConfig
from hydralora.corpus.edits import newest_edits, write_edits
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.quality.report import check_corpus
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.breakdown import find_breakdown, start_breakdown
from jobs.home import Home
from jobs.store.records import Corpus
from jobs.store.store import Store
from studio.pages.corpora.edits import EditsPart
from studio.pages.corpora.page import CorporaPage
from tests.studio.commands import Commands
from tests.studio.stored import Stored
from tests.studio.test_handlers import asking

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def page(store: Store) -> CorporaPage:
    with gr.Blocks() as blocks:
        return CorporaPage(blocks, store)


@pytest.fixture
def part(page: CorporaPage) -> EditsPart:
    return page.edits


@pytest.fixture
def corpus(stored: Stored) -> Corpus:
    return stored.corpus(rows=[{"prompt": f"question {i}?", "answer": f"answer {i}"} for i in range(12)])


def text(store: Store, corpus: Corpus, position: int) -> tuple[str, str]:
    (example,) = Rows(store.home.corpus(corpus.id)).take([position])
    return example.prompt, example.answer


def test_the_newest_edit_of_a_row_counts_and_each_can_be_undone(store: Store, corpus: Corpus) -> None:
    first = store.edits.add(corpus.id, 3, "question 3?", "better")
    second = store.edits.add(corpus.id, 3, "Which one?", "best")
    assert text(store, corpus, 3) == ("Which one?", "best") and text(store, corpus, 4) == ("question 4?", "answer 4")
    store.edits.undo(second.id)
    assert text(store, corpus, 3) == ("question 3?", "better")
    store.edits.undo(first.id)
    assert text(store, corpus, 3) == ("question 3?", "answer 3") and store.edits.name(corpus.id) == ""
    store.edits.redo(second.id)
    assert text(store, corpus, 3) == ("Which one?", "best")
    assert [(one.id, one.undone_at is None) for one in store.edits.all(corpus.id)] == [
        (second.id, True),
        (first.id, False),
    ]


@pytest.mark.parametrize(
    ("position", "prompt", "answer", "words"),
    [
        (3, "question 3?", " \n", "Row 3: `answer` is empty"),
        (3, " ", "a", "Row 3: `prompt` is empty"),
        (3, "question 3?", "answer 3", "stays as it is"),
        (3, "q", "x" * (limits.MAX_CHARACTERS + 1), "are the most. Shorten it"),
        (12, "q", "a", "outside this corpus"),
        (-1, "q", "a", "outside this corpus"),
    ],
)
def test_what_cannot_stand_in_a_row_is_refused(
    store: Store, corpus: Corpus, position: int, prompt: str, answer: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        store.edits.add(corpus.id, position, prompt, answer)
    assert store.edits.all(corpus.id) == [] and newest_edits(store.home.corpus(corpus.id)) == ""


def test_a_layer_that_a_crash_left_is_mended(store: Store, corpus: Corpus) -> None:
    folder = store.home.corpus(corpus.id)
    write_edits(folder, {1: ("lost", "lost")}, Rows(folder, "").take([1]))
    assert store.edits.layer(corpus.id) == "" and text(store, corpus, 1) == ("question 1?", "answer 1")


def test_a_run_keeps_the_rows_it_began_with_as_do_those_that_it_is_broken_into(
    store: Store, stored: Stored, corpus: Corpus
) -> None:
    stored.clustering(corpus)
    store.edits.add(corpus.id, 3, "Which one?", "best")
    run = stored.run(corpus)
    store.edits.add(corpus.id, 4, "And this?", "good")
    assert run.config.train.edits == store.runs.get(run.id).config.train.edits != store.edits.name(corpus.id) != ""
    mine = Rows(store.home.corpus(corpus.id), run.config.train.edits)
    assert [mine.take([i])[0].answer for i in (3, 4)] == ["best", "answer 4"]
    parts = start_breakdown(store, run.id)
    assert {one.config.train.edits for one in parts} == {run.config.train.edits}
    assert [one.id for one in find_breakdown(store, run)] == [one.id for one in parts]
    assert stored.run(corpus, finished=False).config.train.edits == store.edits.name(corpus.id)


def test_a_check_reads_the_edited_rows_and_says_when_it_is_older(store: Store, stored: Stored, corpus: Corpus) -> None:
    store.edits.add(corpus.id, 3, "question 4?", "answer 4")
    job = store.checks.add(corpus.id)
    report = check_corpus(
        store.home.corpus(corpus.id), TrainConfig(**{**job.payload["train"], "held_out_fraction": 0.0})
    )
    stored.end(job, report.row())
    assert "copies" in [finding.kind for finding in report.findings] and report.edits == store.edits.name(corpus.id)
    with gr.Blocks() as blocks:
        problems = CorporaPage(blocks, store).problems
    assert "Check again" not in problems.draw(corpus)[problems.report]
    store.edits.undo(store.edits.all(corpus.id)[0].id)
    assert "edited since" in problems.draw(corpus)[problems.report]


def test_search_and_export_have_the_edited_text(client: TestClient, store: Store, corpus: Corpus) -> None:
    store.edits.add(corpus.id, 3, "Which kettle?", "the red one")
    assert store.selections.find(corpus.id, Query(search="KETTLE")).positions.tolist() == [3]
    assert "the red one" in client.get(f"/ui/corpora/{corpus.id}/examples.csv").text
    assert client.get(f"/ui/corpora/{corpus.id}/rows/3").json()["answer"] == "the red one"


def test_edits_go_with_the_rows_that_they_meant(store: Store, stored: Stored, corpus: Corpus) -> None:
    store.edits.add(corpus.id, 3, "Which one?", "best")
    store.corpora.delete(corpus.id)
    assert store.edits.all(corpus.id) == []


# The page


def test_a_row_is_opened_saved_shown_as_edited_and_taken_back(
    page: CorporaPage, part: EditsPart, store: Store, corpus: Corpus
) -> None:
    request = asking(corpus=corpus.id)
    form = part.open_row(request, 3)
    assert (form[part.prompt].value, form[part.answer].value) == ("question 3?", "answer 3")
    before = page.draw(request)[page.stamp]
    part.save_row(request, form[part.opened], f"{EVIL}?", "best")
    assert page.draw(request, before)[page.stamp] != before
    drawn = page.fill_selection(request, "", [], [], [], [], "", "", "", 0, "")
    html = drawn[page.selection.rows] + part.draw(corpus)[part.list]
    assert "edited" in html and "&lt;script&gt;" in html and "<script" not in html
    part.toggle(request, store.edits.all(corpus.id)[0].id)
    assert text(store, corpus, 3) == ("question 3?", "answer 3")
    part.toggle(request, store.edits.all(corpus.id)[0].id)
    assert text(store, corpus, 3)[1] == "best"


def test_a_page_tells_one_look_from_another_by_ids_and_not_by_texts(
    part: EditsPart, store: Store, corpus: Corpus
) -> None:
    seen = [part.state_of(corpus.id)]
    made = [store.edits.add(corpus.id, i, f"question {i}?", "x" * 100_000) for i in range(2)]
    seen.append(part.state_of(corpus.id))
    store.edits.undo(made[0].id)
    seen.append(part.state_of(corpus.id))
    assert seen[0] == [] and seen[1] == [(made[1].id, None), (made[0].id, None)] and seen[2] != seen[1]
    assert store.edits.states(10**30) == [] and all(len(repr(state)) < 200 for state in seen)


@pytest.mark.parametrize("hostile", [None, "", "x", "-1", "9" * 40, "٣", {"path": "/etc/passwd"}])
def test_a_row_that_was_not_opened_is_not_saved(part: EditsPart, store: Store, corpus: Corpus, hostile: Any) -> None:
    with pytest.raises(UserError):
        part.save_row(asking(corpus=corpus.id), hostile, "q", "a")
    assert store.edits.all(corpus.id) == []


def test_an_edit_of_another_corpus_is_not_taken_back(part: EditsPart, stored: Stored, corpus: Corpus) -> None:
    other = stored.corpus("Other")
    theirs = stored.store.edits.add(other.id, 1, "mine?", "mine")
    for given in (theirs.id, None, "1"):
        with pytest.raises(UserError, match="Choose the edit"):
            part.toggle(asking(corpus=corpus.id), given)
    assert text(stored.store, other, 1) == ("mine?", "mine")


# Conversations

CALL = {"type": "function", "function": {"name": "find", "arguments": {"item": 0}}}


def talk(stored: Stored) -> Corpus:
    """Four conversations; the second turn of each calls a tool."""
    said = [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
        {"role": "tool", "content": "shelf 3"},
        {"role": "assistant", "content": f"On shelf 3. {EVIL}"},
    ]
    rows: list[Any] = [{"messages": [{**turn, "content": f"{turn['content']} {i}"} for turn in said]} for i in range(4)]
    return stored.corpus("Talk", rows=rows)


def test_edits_of_turns_add_up_and_each_can_be_undone(store: Store, stored: Stored) -> None:
    corpus = talk(stored)
    first = store.edits.add_turn(corpus.id, 2, 0, "Where?")
    name = store.edits.name(corpus.id)
    second = store.edits.add_turn(corpus.id, 2, 1, calls='[{"name": "seek", "arguments": {"item": 7}}]')
    (example,) = Rows(store.home.corpus(corpus.id)).take([2])
    assert example.history[0] == ("user", "Where?") and '"seek"' in example.history[1][1]
    assert second.more["turns"].keys() == {"0", "1"} and "extra" in second.more and first.more.keys() == {"turns"}
    store.edits.undo(second.id)
    assert store.edits.name(corpus.id) == name != ""
    (example,) = Rows(store.home.corpus(corpus.id)).take([2])
    assert example.history[0] == ("user", "Where?") and '"find"' in example.history[1][1]
    store.edits.undo(first.id)
    assert (
        store.edits.name(corpus.id) == "" and Rows(store.home.corpus(corpus.id)).take([2])[0].history[0][1] != "Where?"
    )


@pytest.mark.parametrize(
    ("place", "text", "calls", "words"),
    [
        (0, "Where is it? 2", None, "Row 2 stays as it is"),
        (0, "x" * (limits.MAX_CHARACTERS + 1), None, "are the most. Shorten it"),
        (7, "x", None, "Row 2: There is no turn 7"),
        (1, None, '[{"name": 3}]', "Row 2: Each call of a tool"),
    ],
)
def test_what_cannot_stand_in_a_turn_is_refused(
    store: Store, stored: Stored, place: int, text: str | None, calls: str | None, words: str
) -> None:
    corpus = talk(stored)
    with pytest.raises(UserError, match=words):
        store.edits.add_turn(corpus.id, 2, place, text, calls)
    assert store.edits.all(corpus.id) == []


def test_a_broken_character_in_calls_is_replaced_and_the_layer_is_read(store: Store, stored: Stored) -> None:
    corpus = talk(stored)
    store.edits.add_turn(corpus.id, 2, 1, calls='[{"name": "a", "arguments": {"b": "\\ud800\\u0000"}}]')
    assert "\ufffd" in Rows(store.home.corpus(corpus.id)).take([2])[0].extra


def test_a_turn_is_opened_saved_and_shown_with_its_markup_escaped(
    part: EditsPart, store: Store, stored: Stored
) -> None:
    corpus = talk(stored)
    request = asking(corpus=corpus.id)
    form = part.open_row(request, 1)
    titles = [title for title, _ in form[part.turn].choices]
    assert titles == ["turn 0, user", "turn 1, assistant, calls tools", "turn 2, tool", "turn 3, assistant"]
    assert form[part.turn].value == 3 and form[part.text].value.endswith("1") and not form[part.calls].visible
    chosen = part.open_turn(request, form[part.opened], 1)
    assert chosen[part.text].value == "Let me look. 1" and chosen[part.calls].visible
    part.save_row(request, form[part.opened], "", "", 1, f"Hm. {EVIL}", chosen[part.calls].value)
    (example,) = Rows(store.home.corpus(corpus.id)).take([1])
    assert example.details()["messages"]["1"] == {"content": f"Hm. {EVIL}", "tool_calls": [CALL]}
    listed = part.draw(corpus)[part.list]
    assert "turn 1; calls of tools" in listed and "<script" not in listed


@pytest.mark.parametrize("hostile", [None, "", "0", -2, 99, True, 1.0, [1], {"a": 1}, 10**400])
def test_a_turn_that_is_none_is_not_saved(part: EditsPart, store: Store, stored: Stored, hostile: Any) -> None:
    request = asking(corpus=talk(stored).id)
    with pytest.raises(UserError):
        part.save_row(request, "1", "", "", hostile, "x", "")
    with pytest.raises(UserError):
        part.open_turn(request, "1", hostile)


# Commands


def test_a_turn_is_listed_edited_and_reverted_by_command(tmp_path: Path) -> None:
    stored = Stored(Store(Home(tmp_path / "home")))
    corpus, commands = talk(stored), Commands(tmp_path / "home")
    turns = commands.json("corpora", "turns", corpus.id, 2)
    assert [(one["place"], one["role"], bool(one["calls"])) for one in turns] == [
        (0, "user", False),
        (1, "assistant", True),
        (2, "tool", False),
        (3, "assistant", False),
    ]
    made = commands.json("corpora", "edit", corpus.id, 2, "--turn", 1, "--text", "Hm.")
    assert made["more"]["turns"]["1"].startswith("Hm.")
    assert commands.json("corpora", "turns", corpus.id, 2)[1]["text"] == "Hm."
    assert "turn 1; calls of tools" in commands("corpora", "edits", corpus.id).stdout
    commands.json("corpora", "revert", made["id"])
    assert commands.json("corpora", "turns", corpus.id, 2)[1]["text"] == "Let me look. 2"
    for words, sentence in ((("--turn", "x", "--text", "y"), "takes a number"), (("--text", "y"), "Name it with")):
        refused = commands("corpora", "edit", corpus.id, 2, *words)
        assert refused.returncode == 2 and sentence in refused.stderr
    refused = commands("corpora", "edit", corpus.id, 2, "--turn", 1, "--answer", "y")
    assert refused.returncode == 2 and "one edit at a time" in refused.stderr


def test_a_row_is_edited_listed_and_reverted_by_command(tmp_path: Path) -> None:
    stored = Stored(Store(Home(tmp_path / "home")))
    corpus, commands = stored.corpus(), Commands(tmp_path / "home")
    made = commands.json("corpora", "edit", corpus.id, 2, "--answer", "better")
    assert (made["position"], made["prompt"], made["answer"]) == (2, "question 2", "better")
    assert commands.json("corpora", "select", corpus.id, "--search", "better")["positions"] == [2]
    assert [one["id"] for one in commands.json("corpora", "edits", corpus.id)] == [made["id"]]
    commands.json("corpora", "revert", made["id"])
    assert commands.json("corpora", "select", corpus.id, "--search", "better")["positions"] == []
    assert commands.json("corpora", "revert", made["id"], "--again")["undone_at"] is None
    refused = commands("corpora", "edit", corpus.id, 99, "--answer", "x")
    assert refused.returncode == 2 and "outside this corpus" in refused.stderr
