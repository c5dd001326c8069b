"""Whether the first row of a table names its columns, and what the columns are then called."""

from __future__ import annotations

import re
from statistics import median

from hydralora.corpus.rows import check_columns

HEADER_WORDS = {
    "question",
    "answer",
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "text",
    "label",
    "response",
    "target",
    "id",
    "messages",
    "category",
    "split",
    "context",
    "content",
    "title",
}
LOOKED_AT = 50  # rows below the first one
LONGEST_NAME = 60  # characters that a heading of a column has at most


def is_header(first: list[str], below: list[list[str]]) -> bool:
    """Whether ``first`` names the columns of the rows ``below`` it, in whatever language.

    Names are short and different from each other, no numbers and no sentences; and a name does not stand in the
    column below it as well.
    """
    names = [cell.strip() for cell in first if cell.strip()]
    if not below or not names or len(set(names)) < len(names) or any(len(name) > LONGEST_NAME for name in names):
        return False
    if any(re.fullmatch(r"[-+]?[\d.,]+%?", name) for name in names):
        return False
    if any(name.lower().replace("_", " ") in HEADER_WORDS for name in names):
        return True
    columns = [[row[i].strip() for row in below[:LOOKED_AT] if i < len(row)] for i in range(len(first))]
    if len(below) > 2 and any(cell.strip() in column for cell, column in zip(first, columns, strict=True) if cell):
        return False
    if any(re.search(r"[.!;。！]$", name) or name.count(" ") > 5 for name in names):
        return False
    asks = any(re.search(r"[?？:]$", name) or name.count(" ") > 3 for name in names)
    return not asks or _is_much_shorter(first, columns)


def _is_much_shorter(first: list[str], columns: list[list[str]]) -> bool:
    """Whether every name is far shorter than what usually stands below it, or a word above numbers."""
    usual = [median([len(cell) for cell in column] or [0]) for column in columns]
    return all(len(cell) * 2 < length for cell, length in zip(first, usual, strict=True) if length > 8)


def column_names(first: list[str], has_header: bool, source: str) -> list[str]:
    """What the columns are called: by the header, else by their number; columns of one name stay apart.

    Raises:
        CorpusError: When there are too many, or one has a name that is none.
    """
    check_columns([str(i) for i in range(len(first))], source)  # their number, before anything is done with each
    if not has_header:
        return [f"column {i}" for i in range(1, len(first) + 1)]
    columns = [cell.strip() or f"column {i}" for i, cell in enumerate(first, 1)]
    if len(set(columns)) < len(columns):
        columns = [f"{column} {i}" if columns.count(column) > 1 else column for i, column in enumerate(columns, 1)]
    check_columns(columns, source)
    return columns


def header_place(rows: list[list[str]]) -> int:
    """How many rows stand above the table itself, such as a title: those narrower than the first full row."""
    widths = [sum(bool(cell.strip()) for cell in row) for row in rows]
    if not widths or max(widths) < 2:
        return 0
    usual = max(set(widths), key=lambda width: (widths.count(width) * (width > 1), width))
    above = next((place for place, width in enumerate(widths) if width >= min(usual, max(widths))), 0)
    return above if all(width <= max(1, usual // 2) for width in widths[:above]) else 0
