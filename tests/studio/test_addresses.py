"""An address of nothing says so in a sentence, and opens nothing else in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.studio.pages import opened, words
from tests.studio.stored import Stored

# Page, handler of its opening, name in the address, and the word for what it names.
ASKED = [
    ("corpora", "draw", "corpus", "Corpus"),
    ("new-run", "load", "corpus", "Corpus"),
    ("new-run", "load", "again", "Run"),
    ("run", "draw", "run", "Run"),
    ("chat", "look", "conversation", "Conversation"),
]


@pytest.mark.parametrize("page, handler, name, word", ASKED)
@pytest.mark.parametrize("item", ["999999", "0"])
def test_an_id_of_nothing_is_told(
    client: TestClient, stored: Stored, page: str, handler: str, name: str, word: str, item: str
) -> None:
    stored.run(stored.corpus())
    said = words(opened(client, page, handler, f"?{name}={item}"))
    assert f"{word} {item} does not exist. It may have been deleted." in said


@pytest.mark.parametrize("page, handler, name, word", ASKED)
@pytest.mark.parametrize("item", ["abc", "-1", "1.5", "1e3", "9" * 40])
def test_what_is_no_id_is_told(
    client: TestClient, stored: Stored, page: str, handler: str, name: str, word: str, item: str
) -> None:
    stored.run(stored.corpus())
    said = words(opened(client, page, handler, f"?{name}={item}"))
    assert f"{word} &#x27;{item}&#x27; does not exist: an id is a whole number." in said


@pytest.mark.parametrize("page, handler, name", [row[:3] for row in ASKED])
def test_a_hostile_id_is_shown_as_text(client: TestClient, stored: Stored, page: str, handler: str, name: str) -> None:
    data = opened(client, page, handler, f"?{name}=%3Cimg%20src%3Dx%3E")
    said = words([value for value in data if isinstance(value, str)])  # markup; choices are text to Gradio
    assert "<img" not in said and "&lt;img" in said


@pytest.mark.parametrize("page, handler, name", [row[:3] for row in ASKED])
def test_an_address_that_asks_for_nothing_has_no_problem(
    client: TestClient, stored: Stored, page: str, handler: str, name: str
) -> None:
    stored.run(stored.corpus())
    assert "does not exist" not in words(opened(client, page, handler, f"?{name}="))


def filled(data: list[Any]) -> dict[str, Any]:
    """The values that New run puts into its fields."""
    return dict(json.loads(data[-1]))


@pytest.mark.parametrize("query", ["?corpus=999999", "?again=999999", "?corpus=abc"])
def test_no_other_corpus_is_chosen_for_a_new_run(client: TestClient, stored: Stored, query: str) -> None:
    stored.corpus()
    assert filled(opened(client, "new-run", "load", query))["run-corpus"] is None


def test_the_newest_corpus_is_chosen_where_none_is_asked_for(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    assert filled(opened(client, "new-run", "load"))["run-corpus"] == corpus.id


def test_a_run_is_repeated_with_all_its_settings(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    stored.corpus("a newer one")
    run = stored.run(corpus, method="r_lora", adapter={"num_experts": 7}, train={"max_steps": 4})
    values = filled(opened(client, "new-run", "load", f"?again={run.id}"))
    assert (values["run-corpus"], values["run-method"]) == (corpus.id, "r_lora")
    assert (values["field-num_experts"], values["field-max_steps"]) == (7, 4)


def test_a_repeated_run_holds_out_by_prompt_and_learns_as_a_new_one_does(client: TestClient, stored: Stored) -> None:
    former = {"max_steps": 4, "learn": "former", "split_by": "row"}
    run = stored.run(stored.corpus(), train=former)
    values = filled(opened(client, "new-run", "load", f"?again={run.id}"))
    assert (values["field-learn"], values["field-split_by"], values["field-max_steps"]) == ("all", "prompt", 4)


def test_a_corpus_that_is_read_again_is_not_chosen_for_a_new_run(client: TestClient, stored: Stored) -> None:
    older, newer = stored.corpus("older"), stored.corpus("newer")
    stored.store.corpora.import_again(newer.id, {"prompt": ["prompt"], "answer": "answer"})
    assert filled(opened(client, "new-run", "load"))["run-corpus"] == older.id


def test_a_corpus_that_is_still_read_is_told(client: TestClient, stored: Stored) -> None:
    stored.corpus()
    file = stored.home.root / "waiting.csv"
    file.write_text("question,answer\na,b\n", "utf-8")
    waiting = stored.store.corpora.add("Waiting", [file])
    data = opened(client, "new-run", "load", f"?corpus={waiting.id}")
    assert "is not ready (queued)" in words(data) and filled(data)["run-corpus"] is None


def test_a_run_without_an_adapter_is_told_and_answers_nothing(client: TestClient, stored: Stored) -> None:
    corpus = stored.corpus()
    stored.run(corpus, "finished")
    waiting = stored.run(corpus, "waiting", finished=False)
    data = opened(client, "run", "draw", f"?run={waiting.id}&tab=chat")
    assert "It has nothing to answer with yet." in words(data) and "in the queue" in words(data)
