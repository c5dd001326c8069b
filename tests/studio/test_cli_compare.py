"""The commands that compare, tag, archive and repeat runs say what the pages say."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.store.records import Run
from jobs.store.store import Store
from tests.studio.commands import Commands
from tests.studio.stored import Stored
from tests.studio.test_compare_page import answers


@pytest.fixture
def studio(store: Store) -> Iterator[Commands]:
    commands = Commands(store.home.root)
    yield commands
    commands.end()


@pytest.fixture
def pair(stored: Stored) -> tuple[Run, Run]:
    """Two finished runs of two methods on one corpus."""
    corpus = stored.corpus()
    first = stored.run(corpus, "Hydra")
    second = stored.run(corpus, "Plain", method="lora", adapter={"r": 8})
    stored.analysis(first, "answers", answers([True, True, False, True]))
    stored.analysis(second, "answers", answers([True, False, False, False]))
    return first, second


def test_a_comparison_is_told_with_its_verdict_and_written_as_files(
    studio: Commands, pair: tuple[Run, Run], tmp_path: Path
) -> None:
    runs = f"{pair[0].id},{pair[1].id},987654"
    answer = studio.json("runs", "compare", runs, "--csv", tmp_path / "out")
    assert "open, 4 questions cannot tell them apart" in answer["verdict"] and answer["missing"] == [987654]
    assert [group["runs"] for group in answer["groups"]] == [[pair[0].id], [pair[1].id]]
    assert answer["difference"]["questions"] == 4 and answer["difference"]["told"] == "open"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"scores.csv", "runs.csv", "settings.csv", "answers.csv", "clusters.csv"}
    rows = list(csv.reader((tmp_path / "out" / "answers.csv").open()))
    assert len(rows) == 5
    words = studio("runs", "compare", runs)
    assert words.returncode == 0 and "Run 987654 does not exist" in words.stdout and "Experts" in words.stdout


def test_tags_and_archive_by_command(studio: Commands, pair: tuple[Run, Run], store: Store) -> None:
    ids = f"{pair[0].id}-{pair[1].id}"
    tagged = studio.json("runs", "tag", ids, "--add", "best", "--add", "mine")
    assert [one["tags"] for one in tagged] == [["best", "mine"]] * 2
    assert studio.json("runs", "archive", ids) == {"changed": 2, "archived": True}
    assert studio.json("runs", "archive", ids, "--back")["changed"] == 2
    assert store.runs.get(pair[0].id).archived_at is None


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["compare", "x"], "names no runs"),
        (["compare", "987654"], "None of the runs 987654 exists"),
        (["tag", "1"], "--add or --remove"),
        (["tag", "987654", "--add", "a"], "None of the runs 987654 exists"),
        (["again", "1"], "either --seeds"),
        (["again", "987654", "--seeds", "1-2"], "Run 987654 does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(studio: Commands, words: list[str], sentence: str) -> None:
    done = studio("runs", *words)
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.strip().splitlines()) == 1
