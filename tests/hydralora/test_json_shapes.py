"""JSON of every shape that programs write becomes the rows it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row
from hydralora.errors import CorpusError

ROWS = [{"question": f"Where is {i}?", "answer": f"In hall {i}."} for i in range(3)]
BY_COLUMN = {key: [row[key] for row in ROWS] for key in ROWS[0]}
SHAPES: dict[str, Any] = {
    "a list": ROWS,
    "columns of lists": BY_COLUMN,
    "columns by row number": {key: dict(enumerate(cells)) for key, cells in BY_COLUMN.items()},
    "split": {"columns": list(BY_COLUMN), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
    "table": {"schema": {"fields": [{"name": "question", "type": "string"}], "pandas_version": "1.4"}, "data": ROWS},
    "grid": [list(BY_COLUMN), *(list(row.values()) for row in ROWS)],
    "beside other words": {"canary": "never train on this", "version": 3, "examples": ROWS},
    "wrapped": {"status": "ok", "result": {"items": ROWS, "total": 3}},
    "columns beside other words": {"name": "faq", **BY_COLUMN},
}


def read(path: Path, **options: Any) -> list[Row | Rejected]:
    return [row for table in open_tables(path, ReadOptions(**options)) for row in table.rows]


def values(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row.values if isinstance(row, Row) else {} for row in read(path, **options)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_rows_come_out_of_every_shape(shape: str, indent: int | None, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps(SHAPES[shape], indent=indent))
    assert values(tmp_path / "q.json") == ROWS


@pytest.mark.parametrize("name", ["q.txt", "q.csv", "q", "q.md"])
def test_json_is_known_by_its_contents_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(ROWS))
    assert values(tmp_path / name) == ROWS or name == "q.md"


def test_an_object_by_id_keeps_the_ids_though_all_rows_have_the_same_fields(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({"217": ROWS[0], "304": ROWS[1]}))
    assert values(tmp_path / "q.json") == [{"id": "217", **ROWS[0]}, {"id": "304", **ROWS[1]}]


def test_a_long_dictionary_gives_its_pairs(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({f"word {i}": f"meaning {i}" for i in range(20)}))
    assert values(tmp_path / "q.json")[3] == {"key": "word 3", "value": "meaning 3"}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("write", ["[{}]", "{}\n{}\n"])
def test_numbers_that_are_none_are_missing_values(write: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(write.replace("{}", f'{{"text": "a", "score": {value}}}'))
    assert {row["score"] for row in values(tmp_path / "q.json")} == {None}


ONE_AFTER_THE_OTHER = {
    "commas": ",\n".join(map(json.dumps, ROWS)) + ",\n",
    "blank lines": "\n\n".join(map(json.dumps, ROWS)) + "\n\n",
    "no space": "".join(map(json.dumps, ROWS)),
    "indented": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "lists": json.dumps(ROWS[:1]) + "\n" + json.dumps(ROWS[1:]),
    "old ends": "\r\n".join(map(json.dumps, ROWS)),
}


@pytest.mark.parametrize("name", ["q.json", "q.jsonl"])
@pytest.mark.parametrize("way", ONE_AFTER_THE_OTHER)
def test_objects_one_after_the_other_are_rows(way: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(ONE_AFTER_THE_OTHER[way], newline="")
    assert values(tmp_path / name) == ROWS


def test_a_row_of_another_width_in_a_data_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({"columns": ["q", "a"], "data": [["x", "y"], ["z"]]}))
    assert read(tmp_path / "q.json") == [
        Row(1, {"q": "x", "a": "y"}),
        Rejected(2, "Item 2 has 1 values, the others 2."),
    ]


def test_lists_of_different_lengths_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({"prompts": ["a", "b"], "answers": ["c"]}))
    with pytest.raises(CorpusError, match=r"columns with lists of one length"):
        read(tmp_path / "q.json")


def test_messages_in_a_column_are_cells_and_not_rows(tmp_path: Path) -> None:
    talks = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "bye"}]]
    (tmp_path / "q.json").write_text(json.dumps({"id": [1, 2], "messages": talks}))
    assert values(tmp_path / "q.json") == [{"id": 1, "messages": talks[0]}, {"id": 2, "messages": talks[1]}]


@pytest.mark.parametrize("wrap", ["{}", '{{"train": {}}}'])
def test_a_preview_of_a_large_value_reads_its_beginning_only(wrap: str, tmp_path: Path) -> None:
    text = wrap.format(json.dumps([{"text": "word " * 20, "n": i} for i in range(12_000)]))
    (tmp_path / "q.json").write_text(text)
    found = values(tmp_path / "q.json", head_only=True)
    assert 1000 < len(found) < 12_000 and found[5]["n"] == 5


def test_one_object_in_a_file_of_lines_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert values(tmp_path / "q.jsonl") == ROWS[:1]
