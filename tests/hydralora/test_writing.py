"""What is written out of a corpus is read back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.writing import write_examples
from hydralora.errors import CorpusError
from hydralora.results import Roles
from tests.hydralora.conftest import write_lines

PAIRS = [
    {
        "prompt": f"Where is lamp {i}?",
        "answer": f"On shelf {i},\nhall 2.",
        "label": "lamp",
        "split": "test" if i % 3 else "train",
    }
    for i in range(8)
]
TALKS = [
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": f"Hello {i}"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "There."},
        ]
    }
    for i in range(4)
]
TEXTS = [{"text": f"A text about the number {i}, which is long enough."} for i in range(5)]


def keep(folder: Path, rows: list[dict[str, Any]], name: str = "corpus") -> Corpus:
    import_corpus([write_lines(folder / f"{name}.jsonl", rows)], folder / name)
    return Corpus(folder / name)


@pytest.mark.parametrize("rows", [PAIRS, TALKS, TEXTS], ids=["pairs", "talks", "texts"])
@pytest.mark.parametrize("name", ["jsonl", "parquet", "csv"])
def test_a_file_that_was_written_holds_the_same_examples(tmp_path: Path, rows: list[dict[str, Any]], name: str) -> None:
    corpus, path = keep(tmp_path, rows), tmp_path / f"out.{name}"
    if name == "csv" and rows is TALKS:
        with pytest.raises(CorpusError, match="does not fit into a row of CSV"):
            write_examples(corpus, range(len(corpus)), path, name)
        assert not path.exists()
        return
    write_examples(corpus, range(len(corpus)), path, name)
    roles = Roles(text="answer") if name == "csv" and rows is TEXTS else None  # a table with empty prompts
    import_corpus([path], tmp_path / "again", roles=roles)
    again = Corpus(tmp_path / "again")
    assert [e.content_hash() for e in again] == [e.content_hash() for e in corpus]
    assert [(e.label, e.split) for e in again] == [(e.label, e.split) for e in corpus]


def test_only_the_chosen_examples_are_written(tmp_path: Path) -> None:
    corpus, path = keep(tmp_path, PAIRS), tmp_path / "out.jsonl"
    write_examples(corpus, [6, 2], path, "jsonl")
    import_corpus([path], tmp_path / "again")
    assert [e.prompt for e in Corpus(tmp_path / "again")] == ["Where is lamp 6?", "Where is lamp 2?"]


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_defused(tmp_path: Path, cell: str) -> None:
    corpus, path = keep(tmp_path, [*PAIRS, {"prompt": cell, "answer": "x"}]), tmp_path / "out.csv"
    write_examples(corpus, [8], path, "csv")
    assert path.read_text("utf-8").splitlines()[1].startswith(("'", "\"'"))


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="written as jsonl, csv, parquet, not as 'xls'"):
        write_examples(keep(tmp_path, PAIRS), [0], tmp_path / "out.xls", "xls")
