"""Rows of delimited text: CSV, TSV and their kin, with or without a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from typing import TextIO

from hydralora import limits
from hydralora.corpus.dialect import Dialect, find_dialect
from hydralora.corpus.header import LOOKED_AT, column_names, is_header
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_file import Lines, LongRow, TextFile
from hydralora.errors import CorpusError

SAMPLE_CHARACTERS = 65_536  # that tell the dialect

csv.field_size_limit(limits.MAX_ROW_CHARACTERS)


def open_csv(file: TextFile) -> Table:
    """The table in ``file``; dialect and header are found by looking at its first rows.

    Raises:
        CorpusError: When the first rows cannot be read or there are too many columns.
    """
    sample = file.head(SAMPLE_CHARACTERS)
    if len(sample) == SAMPLE_CHARACTERS:
        sample = sample[: sample.rfind("\n") + 1] or sample  # whole lines
    dialect = find_dialect(sample, file.options)
    first, below = _first_rows(file, dialect)
    wanted = file.options.header
    has_header = is_header(first, below) if wanted is None else wanted
    columns = column_names(first, has_header, file.name)
    rows = _csv_rows(file, dialect, columns, skip_first=has_header)
    return Table("csv", rows, columns, dialect.details(), has_header)


def _lines(stream: TextIO, file: TextFile, dialect: Dialect) -> Lines:
    """The lines of the table itself."""
    lines = Lines(stream, file.name)
    for _ in islice(lines, dialect.skipped):
        lines.begin_row()
    lines.begin_row()
    return lines


def _first_rows(file: TextFile, dialect: Dialect) -> tuple[list[str], list[list[str]]]:
    """The first row that is not blank, and some below it that could be read."""
    found: list[list[str]] = []
    with file.open(newline="") as stream:
        lines = _lines(stream, file, dialect)
        reader = dialect.reader(lines)
        try:
            while len(found) <= LOOKED_AT and lines.characters < SAMPLE_CHARACTERS:
                lines.begin_row()
                found += filter(None, [next(reader)])
        except StopIteration:
            found = found or [[]]
        except (csv.Error, LongRow) as error:
            if len(found) < 2:
                raise CorpusError(
                    f"{file.name}: the first rows cannot be read ({error}). Check its quotes and delimiters."
                ) from error
    return found[0], found[1:]


def _csv_rows(file: TextFile, dialect: Dialect, columns: list[str], *, skip_first: bool) -> Iterator[Row | Rejected]:
    number = dialect.skipped
    with file.open(newline="") as stream:
        lines = _lines(stream, file, dialect)
        reader = dialect.reader(lines)
        while True:
            number += 1
            lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, LongRow) as error:
                yield Rejected(number, f"Row {number} cannot be read: {error}.")
                continue
            if cells and skip_first:
                skip_first = False
            elif cells:
                yield _row(number, cells, columns)


def _row(number: int, cells: list[str], columns: list[str]) -> Row | Rejected:
    if len(cells) > len(columns) and not any(cell.strip() for cell in cells[len(columns) :]):
        cells = cells[: len(columns)]  # empty columns at the end, as spreadsheets write them
    if len(cells) != len(columns):
        return Rejected(
            number,
            f"Row {number} has {len(cells)} fields, the others {len(columns)}. Check its quotes and delimiters.",
        )
    return Row(number, dict(zip(columns, cells, strict=True)))
