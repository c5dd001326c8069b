"""Rows as they come out of a file: the good ones, the refused ones, and the table they belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from hydralora import limits
from hydralora.errors import CorpusError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "held_out",
    "validation": "held_out",
    "valid": "held_out",
    "val": "held_out",
    "dev": "held_out",
    "held_out": "held_out",
    "heldout": "held_out",
    "eval": "held_out",
}
NAMES_SHOWN = 20  # columns named in a sentence


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
    """One table, opened: what it was taken for, its columns, and its rows in order.

    ``source`` is what messages call it: the file's name, with the name of a part (a sheet, a member of an archive)
    behind it where the file holds several.
    """

    format: str
    rows: Iterator[Row | Rejected]
    columns: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    has_header: bool = True
    source: str = ""


def check_columns(columns: list[str], source: str) -> None:
    """Refuse a file with too many columns, or with names that are none.

    Raises:
        CorpusError: Naming the file, the number and the limit.
    """
    if len(columns) > limits.MAX_COLUMNS:
        raise CorpusError(
            f"{source} has {len(columns):,} columns; at most {limits.MAX_COLUMNS:,} are read. "
            "Keep those that hold the texts."
        )
    odd = fault_of_names(columns)
    if odd:
        raise CorpusError(f"{source} has {odd}. Rename that column.")


def fault_of_names(names: Collection[str]) -> str:
    """What is wrong with some name of a column, or nothing."""
    longest = max(map(len, names), default=0)
    if longest > limits.MAX_NAME_CHARACTERS:
        return f"a column name of {longest:,} characters; at most {limits.MAX_NAME_CHARACTERS} are allowed"
    if any("\ud800" <= letter <= "\udfff" for name in names if not name.isascii() for letter in name):
        return "a column name with a broken character (half of a pair)"
    return ""


def name_some(columns: list[str]) -> str:
    """Names of columns for a sentence: the first ``NAMES_SHOWN``, and how many more there are."""
    shown = ", ".join(columns[:NAMES_SHOWN])
    return shown + (f" and {len(columns) - NAMES_SHOWN:,} more" if len(columns) > NAMES_SHOWN else "")
