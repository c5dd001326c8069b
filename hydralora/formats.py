"""Read files of many formats as plain rows, with the rows that could not be read named.

This module knows bytes, encodings and file formats; what a row means is for ``corpus.py``.
Uploaded bytes are hostile: nothing is unpickled, sizes are bounded, and decompression stops
at a limit.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hydralora.errors import CorpusError, first_line

MAX_BYTES = 2 * 1024**3  # of one file, after decompression
MAX_CHARACTERS = 200_000  # of one row; longer rows are refused
CHUNK_CHARACTERS = 1_200  # plain text is cut near this length, at paragraph ends
DELIMITERS = (",", "\t", ";", "|")
SPLIT_NAMES = {"train": "train", "training": "train", "test": "held_out", "validation": "held_out",
               "valid": "held_out", "val": "held_out", "dev": "held_out", "held_out": "held_out",
               "heldout": "held_out", "eval": "held_out"}  # fmt: skip
EXTENSIONS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
              ".parquet": "parquet", ".txt": "text", ".md": "text", ".markdown": "text"}  # fmt: skip

csv.field_size_limit(16 * 1024**2)  # bytes; the row limit above is what refuses long rows


@dataclass(frozen=True)
class Row:
    """One row as read: its number in the file (1-based) and its named values."""

    number: int
    values: dict[str, Any]
    split: str = ""


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used: where it is and why, as a sentence."""

    row: int
    reason: str
    source: str = ""


@dataclass
class Table:
    """One file, opened: what it was taken for, its columns, and its rows in order."""

    format: str
    rows: Iterator[Row | Rejected]
    columns: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    has_header: bool = True


def open_table(path: Path) -> Table:
    """Open ``path`` as rows, whatever its format.

    CSV, TSV, JSONL, JSON (list, ``{split: rows}``, object of objects, nested question
    answering), Parquet, plain text and Markdown, and gzip of any of these. The ending of the
    name decides between the text formats; gzip and Parquet are known by their first bytes.

    Raises:
        CorpusError: When the file is empty, binary, too large, of an unknown ending, or broken
            as a whole; single bad rows come as ``Rejected`` instead.
    """
    kind = EXTENSIONS.get(_ending(path))
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        raise CorpusError(f"{path.name} is empty. Choose a file with at least two rows.")
    if head == b"PAR1":
        return _open_parquet(path)
    if kind is None:
        raise CorpusError(
            f"{path.name}: the ending '{path.suffix or 'none'}' is not known. "
            "Use CSV, TSV, JSONL, JSON, Parquet, TXT or MD, or a gzip of these."
        )
    if kind == "parquet":
        raise CorpusError(f"{path.name} is not a Parquet file, whatever its name says.")
    text, encoding = _decode(_read_bytes(path, head), path.name)
    if not text.strip():
        raise CorpusError(f"{path.name} holds only blank space. Choose a file with rows.")
    table = {"csv": _open_csv, "json": _open_json, "jsonl": _open_json, "text": _open_text}[kind](text, path.name)
    table.details["encoding"] = encoding
    return table


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_bytes(path: Path, head: bytes) -> bytes:
    opened = gzip.open(path) if head[:2] == b"\x1f\x8b" else path.open("rb")
    try:
        with opened as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise CorpusError(f"{path.name} is a damaged gzip file: {error}. Pack it again.") from error
    _check_size(len(data), path.name)
    return data


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise CorpusError(f"{name} is larger than {MAX_BYTES // 1024**3} GiB unpacked. Split it into parts.")


def _decode(data: bytes, name: str) -> tuple[str, str]:
    """Text and the encoding it was in: UTF-8, UTF-16 (with or without mark) or cp1252."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                           (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if data.startswith(mark):
            return _decode_as(data, encoding, name), encoding
    sample = data[:4096]
    if b"\x00" in sample:
        even, odd = sample[0::2].count(0), sample[1::2].count(0)
        if max(even, odd) < 0.3 * len(sample) / 2 or min(even, odd) > 0.05 * len(sample) / 2:
            raise CorpusError(f"{name} looks like a binary file, not text. Save it as text first.")
        encoding = "utf-16-le" if odd > even else "utf-16-be"
        return _decode_as(data, encoding, name), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        control = sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in sample)
        if control > 0.02 * len(sample):
            raise CorpusError(f"{name} looks like a binary file, not text. Save it as text first.") from None
        return _decode_as(data, "cp1252", name), "cp1252"


def _decode_as(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name}: byte {error.start} fits neither UTF-8, UTF-16 nor cp1252. Save the file as UTF-8."
        ) from error


def _open_csv(text: str, name: str) -> Table:
    delimiter = _find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        first = next(row for row in reader if row)
        second = next((row for row in reader if row), [])
    except (csv.Error, StopIteration) as error:
        raise CorpusError(f"{name}: the first rows cannot be read ({error}).") from error
    has_header = _is_header(first, second)
    columns = [cell.strip() or f"column {i}" for i, cell in enumerate(first, 1)]
    if not has_header:
        columns = [f"column {i}" for i in range(1, len(first) + 1)]
    if len(set(columns)) < len(columns):
        columns = [f"{column} {i}" if columns.count(column) > 1 else column
                   for i, column in enumerate(columns, 1)]  # fmt: skip
    rows = _csv_rows(text, delimiter, columns, skip_first=has_header)
    return Table("csv", rows, columns, {"delimiter": delimiter}, has_header)


def _csv_rows(text: str, delimiter: str, columns: list[str], *, skip_first: bool) -> Iterator[Row | Rejected]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Rejected(number, f"Row {number} cannot be read: {error}.")
            continue
        if not cells or (number == 1 and skip_first):
            continue
        if len(cells) > len(columns) and not any(cell.strip() for cell in cells[len(columns) :]):
            cells = cells[: len(columns)]  # empty columns at the end, as spreadsheets write them
        if len(cells) != len(columns):
            yield Rejected(
                number, f"Row {number} has {len(cells)} fields, the others {len(columns)}. "
                "Check its quotes and delimiters.",
            )  # fmt: skip
            continue
        yield Row(number, dict(zip(columns, cells, strict=True)))


def _find_delimiter(text: str) -> str:
    """The delimiter that cuts the first rows into the same number (over one) of fields."""
    sample = "\n".join(text[:65_536].splitlines()[:60])
    best, best_score = ",", 0.0
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row]
        except csv.Error:
            continue
        usual = max(set(widths), key=widths.count)
        score = widths.count(usual) / len(widths) if usual > 1 else 0.0
        if score > best_score + 0.05:
            best, best_score = delimiter, score
    return best


def _is_header(first: list[str], second: list[str]) -> bool:
    cells = [cell.strip() for cell in first]
    if not second:
        return False
    names = [cell for cell in cells if cell]
    if not names or len(set(names)) < len(names) or any(len(cell) > 40 for cell in names):
        return False
    if any(re.fullmatch(r"[-+]?[\d.,]+%?", cell) for cell in names):
        return False
    if any(cell.lower().replace("_", " ") in HEADER_WORDS for cell in names):
        return True
    return not any(re.search(r"[.?!:;]$", cell) or cell.count(" ") > 3 for cell in names)


HEADER_WORDS = {
    "question", "answer", "instruction", "input", "output", "prompt", "completion", "text", "label",
    "response", "target", "id", "messages", "category", "split", "context", "content", "title",
}  # fmt: skip


def _open_json(text: str, name: str) -> Table:
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and not _is_lines(text)):
        return _open_whole_json(text, name)
    return Table("jsonl", _jsonl_rows(text))


def _is_lines(text: str) -> bool:
    """One object on each line: the first two lines, or, where line 1 is broken, the next two."""
    lines = [found[0] for found in islice(re.finditer(r"\S[^\n]*", text), 3)]
    alone = [_is_object(line) for line in lines]
    return len(lines) > 1 and (alone[0] or alone[1:] == [True, True])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _jsonl_rows(text: str) -> Iterator[Row | Rejected]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            detail = getattr(error, "msg", "nested too deeply")
            yield Rejected(number, f"Line {number} is not valid JSON ({detail}).")
            continue
        yield _row_or_rejected(number, value, "Line")


def _row_or_rejected(number: int, value: Any, word: str, split: str = "") -> Row | Rejected:
    if isinstance(value, dict):
        return Row(number, {str(key): item for key, item in value.items()}, split)
    if isinstance(value, str):
        return Row(number, {"text": value}, split)
    kind = {list: "a list", type(None): "nothing"}.get(type(value), "a single value")
    return Rejected(number, f"{word} {number} holds {kind}; it must be an object with named fields.")


def _open_whole_json(text: str, name: str) -> Table:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{name}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}). "
            "Mend that place and try again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{name}: the JSON is nested too deeply to be read.") from error
    return Table("json", iter(list(_json_rows(value, name))))


def _json_rows(value: Any, name: str) -> Iterator[Row | Rejected]:
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield _row_or_rejected(number, item, "Item")
        return
    lists = {key: item for key, item in value.items() if _is_table(item)}
    if lists:
        number = 0
        for key, items in lists.items():
            for item in _unnest(items):
                number += 1
                yield _row_or_rejected(number, item, "Item", SPLIT_NAMES.get(key.lower(), ""))
    elif value and all(isinstance(item, dict) for item in value.values()):
        for number, (key, item) in enumerate(value.items(), 1):
            yield _row_or_rejected(number, {"id": key, **item}, "Item")
    else:
        raise CorpusError(
            f"{name}: the JSON is one object, not rows. Use a list of objects, "
            '{"train": [...]} or an object of objects.'
        )


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _unnest(items: list[Any]) -> Iterator[Any]:
    """Rows of a list; nested question answering (paragraphs, then questions) is laid flat."""
    for item in items:
        if not (isinstance(item, dict) and _is_table(item.get("paragraphs"))):
            yield item
            continue
        for paragraph in item["paragraphs"]:
            for question in paragraph.get("qas", []):
                answers = question.get("answers") or [{"text": ""}]
                yield {"question": question.get("question", ""), "context": paragraph.get("context"),
                       "answer": answers[0].get("text", "")}  # fmt: skip


def _open_parquet(path: Path) -> Table:
    try:
        file = pq.ParquetFile(path)
        columns = [column for column in file.schema_arrow.names]
        names = _class_names(file.schema_arrow)
        if file.metadata.num_rows == 0 or not columns:
            raise CorpusError(f"{path.name} holds no rows. Choose a file with at least two rows.")
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        _check_size(sum(group.total_byte_size for group in groups), path.name)
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path.name} is a damaged Parquet file: {first_line(error)}.") from error
    return Table("parquet", _parquet_rows(file, names, path.name), columns)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of label numbers that the `datasets` library keeps in the schema's metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if not raw:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        return {key: value["names"] for key, value in features.items()
                if isinstance(value, dict) and isinstance(value.get("names"), list)}  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return {}  # foreign metadata: the numbers are shown as they are


def _parquet_rows(file: pq.ParquetFile, names: dict[str, list[str]], source: str) -> Iterator[Row | Rejected]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=1000):
            for values in batch.to_pylist():
                number += 1
                for column, labels in names.items():
                    index = values.get(column)
                    if isinstance(index, int) and 0 <= index < len(labels):
                        values[column] = labels[index]
                yield Row(number, values)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise CorpusError(
            f"{source}: row {number + 1} of the Parquet file cannot be read: {first_line(error)}."
        ) from error


def _open_text(text: str, name: str) -> Table:
    return Table("text", _text_rows(text), ["text"])


def _text_rows(text: str) -> Iterator[Row]:
    """Paragraphs, joined until they reach about ``CHUNK_CHARACTERS``; numbered by first line."""
    chunk: list[str] = []
    size, start, line = 0, 1, 1
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        if chunk and size + len(paragraph) > CHUNK_CHARACTERS:
            yield Row(start, {"text": "\n\n".join(chunk)})
            chunk, size, start = [], 0, line
        if paragraph.strip():
            chunk.append(paragraph.strip("\n"))
            size += len(paragraph)
        line += paragraph.count("\n") + 2
    if chunk:
        yield Row(start, {"text": "\n\n".join(chunk)})
