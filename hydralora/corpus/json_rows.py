"""Rows of JSON: one object on each line, one after the other, or one value in a shape of ``json_shapes``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from hydralora import limits
from hydralora.corpus.json_shapes import row_or_rejected, rows_of
from hydralora.corpus.reading import mebibytes
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_file import PIECE, LongRow, TextFile
from hydralora.errors import CorpusError

LINES = (".jsonl", ".ndjson")  # end the names of files with one object on each line
MARKS = (",", ":", "[", "{")
PREVIEWED = 2**20  # characters of a large file that a preview parses
SPACE = re.compile(r"[\s,]*")  # between values that follow each other
DECODER = json.JSONDecoder(parse_constant=lambda name: None)  # NaN and Infinity are values that are missing


def open_json(file: TextFile) -> Table:
    """The table in ``file``: line by line where each line is an object, else as one value.

    Raises:
        CorpusError: When it is one value that is broken, too large, or no rows.
    """
    heads = _first_lines(file)
    is_named = any(ending in LINES for ending in file.source.endings)
    begins = heads[0].head.lstrip() if isinstance(heads[0], LongRow) else heads[0]
    if begins.startswith("[") or (begins.startswith("{") and not _is_lines(heads, is_named=is_named)):
        if file.options.head_only and file.source.size > PREVIEWED:
            return Table("json", _numbered(_first_items(file)))
        return Table("json", rows_of(_load(file), file.name))
    return Table("jsonl", _jsonl_rows(file))


def _first_lines(file: TextFile) -> list[str | LongRow]:
    """The first three lines that are not blank, without the space around them."""
    found = (line.strip() if isinstance(line, str) else line for _, line in file.lines("\n"))
    return list(islice(filter(None, found), 3))


def _is_lines(heads: list[str | LongRow], *, is_named: bool) -> bool:
    """One object on each line: the first two lines, or, where line 1 is broken or too long, the next ones."""
    alone = [isinstance(head, str) and _is_object(head) for head in heads]
    if len(heads) == 1 and is_named:
        return alone[0]
    if isinstance(heads[0], LongRow):
        return len(heads) > 1 and all(alone[1:])
    return len(heads) > 1 and (alone[0] or alone[1:] == [True, True])


def _is_object(line: str) -> bool:
    try:
        return isinstance(DECODER.decode(line.rstrip(" ,")), dict)
    except (ValueError, RecursionError):
        return False


def _jsonl_rows(file: TextFile) -> Iterator[Row | Rejected]:
    for number, line in file.lines("\n"):
        if isinstance(line, LongRow):
            yield Rejected(number, f"Line {number} cannot be read: {line}.")
        elif line.strip():
            yield _row_of_line(number, line)


def _row_of_line(number: int, line: str) -> Row | Rejected:
    try:
        value = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        if line.rstrip().endswith(","):
            return _row_of_line(number, line.rstrip().removesuffix(","))
        return Rejected(number, f"Line {number} is not valid JSON ({_fault(error)}).")
    return row_or_rejected(number, value, "Line")


def _fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return getattr(error, "msg", "a number has too many digits")


def _load(file: TextFile) -> Any:
    """The one value of a file, which is read whole and therefore bounded in size and in values."""
    way_out = "Save it as JSONL, one object on each line; that has no such limit."
    if file.size > limits.MAX_JSON_BYTES:
        raise CorpusError(
            f"{file.name} is one JSON value of {mebibytes(file.size)}; at most {mebibytes(limits.MAX_JSON_BYTES)} "
            f"are read whole. {way_out}"
        )
    marks = _count_marks(file)
    if marks > limits.MAX_JSON_MARKS:
        raise CorpusError(
            f"{file.name} is one JSON value with {marks:,} commas, colons and brackets; at most "
            f"{limits.MAX_JSON_MARKS:,} are read whole. {way_out}"
        )
    text = file.read()
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and (values := _in_a_row(text)):
            return values
        raise CorpusError(
            f"{file.name}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}). "
            "Mend that place and try again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{file.name}: the JSON cannot be read ({_fault(error)}). Mend that place.") from error


def _in_a_row(text: str) -> list[Any]:
    """The objects, or lists of them, that stand one after the other; none where something else does too."""
    values: list[Any] = []
    place = SPACE.match(text).end()  # type: ignore[union-attr]
    while place < len(text):
        try:
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, (dict, list)):
            return []
        values += value if isinstance(value, list) else [value]
        place = SPACE.match(text, place).end()  # type: ignore[union-attr]
    return values


def _first_items(file: TextFile) -> list[Any]:
    """For a preview: the first rows of one large value, which is not read to its end.

    Raises:
        CorpusError: When no row begins near the beginning.
    """
    text = file.head(PREVIEWED)
    place = text.find("[") + 1 if (text.lstrip().startswith("[") or re.search(r":\s*\[", text)) else 0
    values: list[Any] = []
    while place:
        place = SPACE.match(text, place).end()  # type: ignore[union-attr]
        try:
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        values.append(value)
    if not values:
        raise CorpusError(f"{file.name}: the JSON is too large to look into before the import. Import it to see rows.")
    return values


def _numbered(values: list[Any]) -> Iterator[Row | Rejected]:
    return (row_or_rejected(number, value, "Item") for number, value in enumerate(values, 1))


def _count_marks(file: TextFile) -> int:
    with file.open(newline="") as stream:
        return sum(piece.count(mark) for piece in iter(lambda: stream.read(PIECE), "") for mark in MARKS)
