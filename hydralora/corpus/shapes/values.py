"""Values of cells as text, with what was changed in them counted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hydralora.errors import CorpusError

INDENT = 2  # spaces at the start of a text from which they are indentation, and kept


@dataclass
class Tally:
    """What was done to the rows of one import, as ``ImportCounts`` keeps it."""

    rows: int = 0
    several: int = 0
    other_answers: int = 0
    marked_bad: int = 0
    worse_answers: int = 0
    pairs: int = 0
    unpaired: int = 0
    unwrapped: int = 0
    end_marks: int = 0
    line_ends: int = 0
    trimmed: int = 0
    other_parts: int = 0


def text_of(value: Any, tally: Tally) -> str:
    """A cell as text: lists of texts are joined by newlines, objects are written as JSON.

    Raises:
        CorpusError: When it holds bytes.
    """
    if type(value) is str:
        return tidy(value, tally)
    if value is None:
        return ""
    if isinstance(value, bytes):
        raise CorpusError("holds bytes, not text")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tidy("\n".join(value), tally)
    if isinstance(value, dict):
        inner = value.get("value", value.get("content"))
        if isinstance(inner, str):
            return tidy(inner, tally)
        if isinstance(value.get("parts"), list):
            return tidy("\n".join(filter(None, map(_part, value["parts"]))), tally)
    if isinstance(value, (list, dict)):  # never deeper than `limits.MAX_DEPTH`
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def tidy(text: str, tally: Tally) -> str:
    """Line ends of Unix, and no white space around it but the indentation of its first line: code needs that."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        tally.line_ends += 1
    bare = text.strip()
    if len(bare) == len(text) or not bare:
        return bare
    before = text[: text.index(bare[0])]
    indent = before[before.rfind("\n") + 1 :]
    kept = indent + bare if "\t" in indent or len(indent) >= INDENT else bare
    tally.trimmed += len(kept) != len(text)
    return kept


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def parsed(value: Any) -> Any:
    """The list or object that a text holds as JSON; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):  # it only begins like JSON, and is a text
            return value
    return value
