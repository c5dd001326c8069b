"""A selection by command: the same functions as the page, in process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hydralora.config import TrainConfig
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.quality.report import check_corpus
from jobs.home import Home
from jobs.store.store import Store
from tests.studio.commands import Commands
from tests.studio.stored import Stored

COUNT = 30


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A home with one corpus of 30 rows, clustered by parity."""
    stored = Stored(Store(Home(tmp_path / "home")))
    rows = [{"prompt": f"door {i}", "answer": "yes " * (1 + i % 4), "label": "abc"[i % 3]} for i in range(COUNT)]
    stored.clustering(stored.corpus(rows=rows))
    return Commands(tmp_path / "home")


def test_everything_that_is_named_holds_at_once(commands: Commands) -> None:
    found = commands.json("corpora", "select", 1, "--label", "a", "--label", "b", "--cluster", 2, "--rows", "0-19")
    assert found["positions"] == [i for i in range(20) if i % 3 < 2 and i % 2 == 1]
    assert (found["selected"], found["of"]) == (7, COUNT)
    assert commands.json("corpora", "select", 1, "--search", "DOOR 1", "--count")["selected"] == 11
    assert commands("corpora", "select", 1, "--search", "DOOR 1", "--count").stdout == "11\n"
    assert commands.json("corpora", "select", 1, "--min-length", 20, "--max-length", 99)["selected"] > 0


def test_a_selection_is_named_listed_exported_left_out_and_forgotten(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "b.jsonl"
    done = commands.json("corpora", "select", 1, "--label", "b", "--name", "the b", "--export", file, "--exclude")
    assert import_corpus([file], tmp_path / "back").examples == 10 == done["selected"]
    assert {example.label for example in Rows(tmp_path / "back")} == {"b"}
    (listed,) = commands.json("corpora", "selections", 1)
    assert (listed["id"], listed["name"], listed["count"], listed["words"]) == (done["selection_id"], "the b", 10, "b")
    assert commands.json("corpora", "select", 1, "--left-out")["selected"] == 10
    assert commands.json("corpora", "select", 1, "--not-left-out", "--selection", listed["id"])["selected"] == 0
    assert commands.json("corpora", "exclusions", 1)[0]["reason"] == "b"
    commands.json("corpora", "forget", listed["id"])
    assert commands.json("corpora", "selections", 1) == []


def test_rows_are_selected_by_language_once_the_corpus_was_checked(commands: Commands, tmp_path: Path) -> None:
    refused = commands("corpora", "select", 1, "--language", "en")
    assert refused.returncode == 2 and "Languages were not told yet" in refused.stderr
    check_corpus(Store(Home(tmp_path / "home")).home.corpus(1), TrainConfig())
    found = commands.json("corpora", "select", 1, "--language", "none")
    assert found["positions"] and found["languages"]["none"] == found["selected"]


def test_rows_are_listed_for_people(commands: Commands) -> None:
    said = commands("corpora", "select", 1, "--label", "c").stdout
    assert "10 rows of 30 selected." in said and "door 2" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--exclude",), "leaves nothing"),
        (("--search", "zebra", "--name", "none"), "nothing to name"),
        (("--search", "zebra", "--export", "x.csv"), "nothing to export"),
        (("--label", "a", "--export", "x.exe"), "not as 'exe'"),
        (("--cluster", "9"), "no cluster C9"),
        (("--flag", "cut"), "check the corpus first"),
        (("--min-tokens", "3"), "No tokens were counted"),
        (("--selection", "7"), "does not exist"),
        (("--rows", "x"), "takes positions such as"),
        (("--max-length", "-3"), "greater than or equal to 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_selected_is_one_sentence(commands: Commands, words: tuple[str, ...], sentence: str) -> None:
    done = commands("corpora", "select", 1, *words)
    assert done.returncode == 2 and sentence in done.stderr and done.stdout == ""
    assert json.loads(commands("corpora", "exclusions", 1, "--json").stdout) == []
