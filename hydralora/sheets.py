"""Tables as CSV for spreadsheets: a cell that one would run as a formula gets an apostrophe in front.

``csvCell`` in ``static/studio.js`` does the same for tables that the browser saves; a test keeps the two alike.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# White space and marks that are not seen, then one of = + - @ in either width, or a tab or line break at the start.
FORMULA = re.compile(
    r"^(?:[\t\r\n]|[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
NUMBER = re.compile(r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$")


def defused(value: object) -> str:
    """A cell as a spreadsheet may read it; numbers stay numbers, also negative ones."""
    text = "" if value is None else str(value)
    return f"'{text}" if FORMULA.search(text) and not NUMBER.search(text) else text


def as_csv(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV with every cell defused; without a head where that is empty."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    for row in (*([head] if head else []), *rows):
        table.writerow([defused(value) for value in row])
    return written.getvalue()
