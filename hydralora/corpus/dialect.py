"""The dialect of a table in text: its delimiter, its quotes, and what stands above the table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from hydralora.corpus.reading import ReadOptions

DELIMITERS = (",", "\t", ";", "|", "\x1f", "^")
SAMPLE_ROWS = 60  # that tell the dialect
NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
# A quote behind a backslash, where the backslash is none that was doubled itself, nor the quote one that is doubled.
ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"(?!"(?![,;|\t\r\n]|$))')
PREAMBLE = 20  # lines above a table that are passed over at most


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Args:
        delimiter: One character.
        quote: The quote, doubled inside of cells.
        is_escaped: Whether a quote inside of a cell stands behind a backslash instead.
        skipped: Lines above the table: ``sep=;``, comments, titles.
        consistency: The share of rows as wide as the first one, in 0 to 1.
        score: The same, less for signs that this is no table, or another one.
    """

    delimiter: str = ","
    quote: str = '"'
    is_escaped: bool = False
    skipped: int = 0
    consistency: float = 0.0
    score: float = 0.0

    def reader(self, lines: Iterable[str], *, is_strict: bool = False) -> Iterator[list[str]]:
        """The rows of ``lines``, which keep their ends; strictly, a quote inside of a cell is an error."""
        if self.is_escaped:
            lines = (ESCAPED.sub(r'\1""', line) for line in lines)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=is_strict)

    def details(self) -> dict[str, str]:
        """What to tell of it."""
        told = {
            "delimiter": self.delimiter,
            "delimiter_reason": f"it cuts {self.consistency:.0%} of the first rows like the first one",
        }
        if self.is_escaped:
            told["quotes"] = "escaped by a backslash"
        if self.quote != '"':
            told["quotes"] = "single"
        if self.skipped:
            told["lines_skipped"] = f"{self.skipped} above the table"
        return told


def find_dialect(sample: str, options: ReadOptions | None = None) -> Dialect:
    """The dialect that cuts the rows of ``sample`` most evenly.

    Args:
        sample: The beginning of the file, in whole lines.
    """
    wanted = options.delimiter if options else ""
    skipped, named = _above(sample)
    text = "".join(sample.splitlines(keepends=True)[skipped:])
    candidates = [wanted] if wanted else [named] if named else DELIMITERS
    best = Dialect(wanted or named or ",", skipped=skipped)
    for delimiter in candidates:
        for quote, is_escaped in _quotes(text, delimiter):
            dialect = _scored(Dialect(delimiter, quote, is_escaped, skipped), text)
            if dialect.score > best.score + 0.01:
                best = dialect
    return best


def _above(sample: str) -> tuple[int, str]:
    """How many lines ``sep=;`` and comments take at the top, and the delimiter that is named there."""
    lines = sample.splitlines()
    if lines and (named := re.fullmatch(r"sep=(.)\s*", lines[0])):
        return 1, named[1]
    count = next((i for i, line in enumerate(lines[:PREAMBLE]) if not line.startswith("#")), 0)
    if not count or count >= len(lines):
        return 0, ""
    body = "\n".join(lines[count:])
    widths = {delimiter: len(next(csv.reader([lines[count]], delimiter=delimiter), [])) for delimiter in DELIMITERS}
    delimiter = max(widths, key=lambda sign: widths[sign])
    above = next(csv.reader([lines[count - 1]], delimiter=delimiter), [])
    is_head = re.match(r"#\w", lines[count - 1]) and len(above) == widths[delimiter] > 1
    return (count - 1 if is_head else count, "") if body.strip() else (0, "")


def _quotes(text: str, delimiter: str) -> Iterator[tuple[str, bool]]:
    """The ways of quoting that may be in use: doubled quotes always, others where they are to be seen."""
    yield '"', False
    if ESCAPED.search(text):
        yield '"', True
    line = text.lstrip().partition("\n")[0].strip()
    if line.startswith("'") and line.endswith("'") and f"'{delimiter}'" in line:
        yield "'", False


def _scored(dialect: Dialect, text: str) -> Dialect:
    """How evenly a dialect cuts: the share of rows as wide as the first full one, less for signs of prose."""
    rows, is_strict = _some_rows(dialect, text)
    widths = [len(row) for row in rows]
    above = _titles(widths) if rows else 0
    width, rest = max(widths[above : above + 1], default=0), rows[above:]
    if width < 2:
        return dialect
    even = sum(len(_trimmed(row, width)) == width for row in rest) / len(rest)
    spaced = sum(cell.startswith(" ") for row in rest for cell in row[1:]) / max(1, sum(len(row) - 1 for row in rest))
    is_rare = dialect.delimiter not in NAMES
    score = even - 0.3 * spaced - 0.1 * bool(above) - 0.2 * is_rare - 0.02 * dialect.is_escaped - 0.1 * (not is_strict)
    skipped = dialect.skipped + (_lines_of(dialect, text, above) if above else 0)
    return replace(dialect, consistency=even, score=score, skipped=skipped)


def _some_rows(dialect: Dialect, text: str) -> tuple[list[list[str]], bool]:
    """The first rows, and whether quotes stand in them only where the dialect has quotes."""
    for is_strict in (True, False):
        try:
            rows = dialect.reader(io.StringIO(text, newline=""), is_strict=is_strict)
            return list(islice(filter(None, rows), SAMPLE_ROWS)), is_strict
        except csv.Error:
            continue
    return [], False


def _trimmed(row: list[str], width: int) -> list[str]:
    """A row without the empty cells at its end beyond ``width``."""
    return row[:width] if not any(cell.strip() for cell in row[width:]) else row


def _titles(widths: list[int]) -> int:
    """How many single cells stand above a table of several columns."""
    usual = max(set(widths), key=widths.count)
    above = next((place for place, width in enumerate(widths) if width > 1), 0)
    is_table = usual > 1 and widths[above] == usual and widths.count(usual) >= 0.8 * (len(widths) - above)
    return above if is_table and 0 < above <= 5 and len(widths) - above >= 2 else 0


def _lines_of(dialect: Dialect, text: str, rows: int) -> int:
    """How many lines the first ``rows`` rows take, with the blank ones before, between and behind them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote)
    before = 0
    for row in reader:
        if row and rows == 0:
            return before
        rows -= bool(row)
        before = reader.line_num
    return before
