"""Every format and encoding becomes the same rows; what cannot be read is named in a sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hydralora import limits
from hydralora.corpus.formats import FORMATS, open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_rows import CHUNK_CHARACTERS
from hydralora.errors import CorpusError

ROWS = [
    {"prompt": "Wie heißt du?", "answer": "Zoë, „ich“"},
    {"prompt": "Two lines,\nhere", "answer": 'She said "no"'},
    {"prompt": "Combien ?", "answer": "Trois € café"},
]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real files of ../shared/data are absent")


def open_table(path: Path, **options: Any) -> Table:
    """The only table of a file."""
    (table,) = open_tables(path, ReadOptions(**options))
    return table


def read(path: Path, **options: Any) -> list[Row | Rejected]:
    return [row for table in open_tables(path, ReadOptions(**options)) for row in table.rows]


def values(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row.values if isinstance(row, Row) else {} for row in read(path, **options)]


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def as_csv(delimiter: str) -> Callable[[list[dict[str, str]]], str]:
    def write(rows: list[dict[str, str]]) -> str:
        lines = [delimiter.join(rows[0])]
        lines += [delimiter.join(quoted(cell) for cell in row.values()) for row in rows]
        return "\n".join(lines) + "\n"

    return write


WRITERS = {
    "rows.csv": as_csv(","),
    "semicolon.csv": as_csv(";"),
    "bar.csv": as_csv("|"),
    "rows.tsv": as_csv("\t"),
    "crlf.csv": lambda rows: as_csv(",")(rows).replace('"\n', '"\r\n'),
    "rows.jsonl": lambda rows: "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
    "rows.ndjson": lambda rows: "\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows),
    "blank.jsonl": lambda rows: "\n" + "\n\n".join(json.dumps(r, ensure_ascii=False) for r in rows),
    "lines.json": lambda rows: "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
    "list.json": lambda rows: json.dumps(rows, ensure_ascii=False),
    "indented.json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=2),
    "split.json": lambda rows: json.dumps({"train": rows}, ensure_ascii=False),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]


def test_the_docs_name_every_format():
    told = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text("utf-8")
    assert [known.name for known in FORMATS if known.name not in told] == []


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_come_out_of_every_format_and_encoding(name, encoding, tmp_path):
    path = tmp_path / name
    path.write_bytes(WRITERS[name](ROWS).encode(encoding))
    assert values(path) == ROWS


@pytest.mark.parametrize("name", WRITERS)
def test_gzip_is_read_with_and_without_its_ending(name, tmp_path):
    packed = gzip.compress(WRITERS[name](ROWS).encode())
    for path in (tmp_path / f"{name}.gz", tmp_path / name):
        path.write_bytes(packed)
        assert values(path) == ROWS


@pytest.mark.parametrize(
    ("encoding", "known_as"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-be", "utf-16-be"),
        ("cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_named(encoding, known_as, tmp_path):
    (tmp_path / "rows.csv").write_bytes(WRITERS["rows.csv"](ROWS).encode(encoding))
    assert open_table(tmp_path / "rows.csv").details["encoding"] == known_as


@pytest.mark.parametrize("name", ["rows.parquet", "renamed.csv"])
def test_parquet_is_known_by_its_first_bytes(name, tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
    assert open_table(tmp_path / name).format == "parquet"
    assert values(tmp_path / name) == ROWS


def test_parquet_label_numbers_become_their_names(tmp_path):
    features = {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": ["hi", "win"], "label": [0, 1]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "sms.parquet")
    assert [row["label"] for row in values(tmp_path / "sms.parquet")] == ["ham", "spam"]


def test_foreign_parquet_metadata_is_left_alone(tmp_path):
    table = pa.table({"text": ["hi"], "label": [1]}).replace_schema_metadata({"huggingface": "[1"})
    pq.write_table(table, tmp_path / "sms.parquet")
    assert values(tmp_path / "sms.parquet") == [{"text": "hi", "label": 1}]


def test_an_object_of_objects_gives_rows_with_their_keys(tmp_path):
    (tmp_path / "q.json").write_text(json.dumps({"a1": {"text": "x"}, "b2": {"text": "y"}}))
    assert values(tmp_path / "q.json") == [{"id": "a1", "text": "x"}, {"id": "b2", "text": "y"}]


def test_split_names_of_json_are_kept(tmp_path):
    parts = {"train": [{"text": "a"}], "validation": [{"text": "b"}], "other": [{"text": "c"}]}
    (tmp_path / "q.json").write_text(json.dumps(parts))
    assert [row.split for row in read(tmp_path / "q.json")] == ["train", "held_out", ""]


def test_nested_question_answering_is_laid_flat(tmp_path):
    questions = [
        {"question": "Who?", "answers": [{"text": "Ada"}]},
        {"question": "When?", "answers": []},
    ]
    data = {"version": "1", "data": [{"paragraphs": [{"context": "C", "qas": questions}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(data))
    assert values(tmp_path / "squad.json") == [
        {"question": "Who?", "context": "C", "answer": "Ada"},
        {"question": "When?", "context": "C", "answer": ""},
    ]


@pytest.mark.parametrize("name", ["novel.txt", "novel.md", "novel.markdown", "novel.txt.gz"])
def test_plain_text_is_cut_at_paragraph_ends(name, tmp_path):
    paragraphs = [f"Paragraph {i} " + "word " * 60 for i in range(20)]
    (tmp_path / name).write_text("\r\n\r\n".join(paragraphs), "utf-8")
    chunks = [row["text"] for row in values(tmp_path / name)]
    assert 4 < len(chunks) < 10 and max(map(len, chunks)) <= CHUNK_CHARACTERS + 100
    assert "\n\n".join(chunks).split("\n\n") == paragraphs


def test_chunks_of_text_are_numbered_by_their_first_line(tmp_path):
    text = "\n\n".join(f"{i} " + "x" * 700 for i in range(3))
    (tmp_path / "a.txt").write_text(text)
    assert [row.number for row in read(tmp_path / "a.txt")] == [1, 3, 5]


def test_a_table_without_header_gets_numbered_columns(tmp_path):
    (tmp_path / "q.tsv").write_text("What is two and two?\tFour.\nWhat is one and one?\tTwo.\n")
    table = open_table(tmp_path / "q.tsv")
    assert (table.has_header, table.columns) == (False, ["column 1", "column 2"])
    assert len(list(table.rows)) == 2


def test_columns_of_one_name_stay_apart(tmp_path):
    (tmp_path / "q.csv").write_text("text,note,note\na,b,c\nd,e,f\n")
    assert len(set(open_table(tmp_path / "q.csv").columns)) == 3


def test_empty_columns_at_the_end_of_a_row_are_ignored(tmp_path):
    (tmp_path / "q.csv").write_text("prompt,answer\na,b,,\nc,d\n")
    assert values(tmp_path / "q.csv") == [
        {"prompt": "a", "answer": "b"},
        {"prompt": "c", "answer": "d"},
    ]


def test_ragged_csv_rows_are_refused_by_number(tmp_path):
    (tmp_path / "q.csv").write_text("prompt,answer\na,b\nc\nd,e,f\ng,h\n")
    rows = read(tmp_path / "q.csv")
    assert [row.number for row in rows if isinstance(row, Row)] == [2, 5]
    assert [row.reason for row in rows if isinstance(row, Rejected)] == [
        "Row 3 has 1 fields, the others 2. Check its quotes and delimiters.",
        "Row 4 has 3 fields, the others 2. Check its quotes and delimiters.",
    ]


def test_broken_jsonl_lines_are_refused_by_number(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"text": "a"}\n{"text": \n[1]\nnull\n7\n"b"\n\n{"text": "c"}\n')
    rows = read(tmp_path / "q.jsonl")
    assert [row.number for row in rows if isinstance(row, Row)] == [1, 6, 8]
    reasons = [row.reason for row in rows if isinstance(row, Rejected)]
    assert reasons[0].startswith("Line 2 is not valid JSON (")
    assert reasons[1:] == [
        "Line 3 holds a list; it must be an object with named fields.",
        "Line 4 holds nothing; it must be an object with named fields.",
        "Line 5 holds a single value; it must be an object with named fields.",
    ]


def test_a_broken_first_line_does_not_cost_the_others(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"text": "a\n{"text": "b"}\n{"text": "c"}\n')
    rows = read(tmp_path / "q.jsonl")
    assert isinstance(rows[0], Rejected) and rows[0].reason.startswith("Line 1 is not valid JSON")
    assert [row.values for row in rows[1:]] == [{"text": "b"}, {"text": "c"}]


BAD = {
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b" \n\t\n ", "holds only blank space"),
    "mark.csv": (b"\xef\xbb\xbf", "holds only blank space"),
    "binary.csv": (bytes(range(256)) * 20, "looks like a binary file, not text"),
    "picture.txt": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)), "is a picture. Give the text itself."),
    "half.txt": (b"\xff\xfea", "byte 2 does not fit the encoding utf-16"),
    "strange.csv": (b"prompt,answer\n\x81\x8d,b\n", "byte 14 is not UTF-8, and no other encoding gives usual letters"),
    "model.pkl": (b"\x80\x04K\x01.", "a pickle, which is never read, since it can run code"),
    "weights.gguf": (b"GGUF\x03\x00\x00\x00", "is the weights of a model"),
    "cut.parquet": (b"PAR1" + b"\x00" * 50, "is a damaged Parquet file"),
    "cut.csv.gz": (gzip.compress(b"prompt,answer\na,b\n" * 50)[:-9], "is a damaged gzip file"),
    "bad.csv.gz": (b"\x1f\x8b" + b"\x00" * 20, "is a damaged gzip file"),
    "line3.json": (b'[{"text": "a"},\n {"text": "b"},\n {"text": }]', "not valid JSON at line 3, column 11"),
    "one.json": (b'{"prompt": "a", "answer": "b"}', "the JSON is one object, not rows"),
    "nested.json": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_plain_sentence(name, tmp_path):
    data, part = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError) as error:
        read(tmp_path / name)
    message = str(error.value)
    assert name in message and part in message
    assert "\n" not in message and "Traceback" not in message and len(message) < 300


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "q.parquet")
    with pytest.raises(CorpusError, match=r"q.parquet holds no rows"):
        open_table(tmp_path / "q.parquet")


def test_a_file_that_unpacks_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"a" * 1001))
    with pytest.raises(CorpusError, match=r"bomb.txt.gz is larger than"):
        open_table(tmp_path / "bomb.txt.gz")


def test_a_parquet_file_that_unpacks_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    table = pa.table({"text": ["a" * 5000, "b" * 5000]})
    pq.write_table(table, tmp_path / "bomb.parquet", use_dictionary=False)
    assert (tmp_path / "bomb.parquet").stat().st_size < 5000
    with pytest.raises(CorpusError, match=r"bomb.parquet is larger than"):
        open_table(tmp_path / "bomb.parquet")


def test_nothing_in_a_file_is_unpickled(tmp_path):
    (tmp_path / "evil.jsonl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path) + b"/x'\ntR.")
    read(tmp_path / "evil.jsonl")
    assert not (tmp_path / "x").exists()


@needs_shared
def test_the_json_test_suite_gives_rows_or_one_plain_sentence():
    for path in sorted((SHARED / "json_test_suite").rglob("*.json")):
        try:
            read(path)
        except CorpusError as error:
            assert "\n" not in str(error) and str(error).endswith("."), path.name


@needs_shared
@pytest.mark.parametrize(
    "name", ["comma_in_quotes", "escaped_quotes", "newlines", "newlines_crlf", "quotes_and_newlines", "utf8", "json"]
)
def test_csv_dialects_are_read_as_their_authors_meant(name):
    folder = SHARED / "csv_spectrum"
    text = (folder / "json" / f"{name}.json").read_text("utf-8")
    expected = json.loads(text.replace("\\r\\n", "\\n"))  # as the CSV files are kept
    found = values(folder / "csvs" / f"{name}.csv")[-len(expected) :]
    assert [list(row.values()) for row in found] == [list(row.values()) for row in expected]


@needs_shared
def test_deliberately_bad_parquet_files_are_refused_in_one_sentence():
    for path in sorted((SHARED / "parquet_testing").rglob("*.parquet")):
        try:
            read(path)
        except CorpusError as error:
            assert "\n" not in str(error), path.name
