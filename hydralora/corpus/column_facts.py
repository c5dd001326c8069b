"""What the first values of a column look like: texts, ids, dates, numbers, a few short names, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hydralora.corpus.rows import SPLIT_NAMES

QUESTION_MARKS = ("?", "？", "؟", ";", "՞")  # the Greek one is a semicolon
LOOKED_INTO = 2_000  # characters of one value
NUMBER = re.compile(r"[-+]?[\d.,\s]{1,30}%?")
DATE = re.compile(
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([T ,]+\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2})?|\d{4}年\d{1,2}月\d{1,2}日"
)
ADDRESS = re.compile(r"[\w.+-]+@[\w.-]+|https?://\S+")
CODE = re.compile(r"[\w\-./#:]+")  # an id, where there is a digit in it
LONGEST_CODE = 200
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "؟", "।", "…")
LABEL_CHARACTERS, LABEL_WORDS = 60, 6  # at most, of a value that may be a label
MOST_LABELS, FEWEST_ROWS = 60, 6
TEXT_CHARACTERS, TEXT_CHARACTERS_DENSE = 12, 5  # on average, of a column of texts; with and without spaces


@dataclass(frozen=True)
class ColumnFacts:
    """Shares are of the filled values among those looked at.

    Args:
        filled: Values that are not empty.
        strings: Share of texts.
        length: Mean characters of a text.
        distinct: Different values.
        questions: Share that ends with a question mark.
        kind: ``text``, ``number``, ``date``, ``id``, ``label``, ``split``, ``messages``, ``list``, ``object`` or
            ``empty``.
    """

    filled: int
    strings: float
    length: float
    distinct: int
    questions: float
    kind: str

    @property
    def may_be_learnt(self) -> bool:
        """Whether it may be a question or an answer where its name does not say so."""
        return self.kind in ("text", "label")

    @property
    def has_sentences(self) -> bool:
        """Whether its texts are longer than names and codes."""
        return self.kind == "text"


def look_at(values: Iterable[Any]) -> ColumnFacts:
    """The facts of one column from its first values."""
    filled = [value for value in values if value not in (None, "", [], {}) and str(value).strip()]
    texts = [value.strip()[:LOOKED_INTO] for value in filled if isinstance(value, str)]
    different = len({str(value)[:LOOKED_INTO] for value in filled})
    length = sum(map(len, texts)) / len(texts) if texts else 0.0
    questions = _share(texts, lambda text: text.endswith(QUESTION_MARKS))
    strings = len(texts) / len(filled) if filled else 0.0
    return ColumnFacts(len(filled), strings, length, different, questions, _kind(filled, texts, different, length))


def _share(texts: list[str], test: Any) -> float:
    return sum(map(bool, map(test, texts))) / len(texts) if texts else 0.0


def _kind(filled: list[Any], texts: list[str], different: int, length: float) -> str:
    if not filled:
        return "empty"
    if len(texts) * 2 < len(filled):
        return _kind_of_values(filled)
    if all(text.lower() in SPLIT_NAMES for text in texts):
        return "split"
    if _share(texts, DATE.fullmatch) > 0.8:
        return "date"
    if _share(texts, NUMBER.fullmatch) > 0.8:
        return "number"
    if _share(texts, _is_code) > 0.8:
        return "id"
    if is_few(texts, different):
        return "label"
    dense = _share(texts, lambda text: " " not in text and not text.isascii()) > 0.5
    return "text" if length >= (TEXT_CHARACTERS_DENSE if dense else TEXT_CHARACTERS) else "short"


def is_few(texts: list[str], different: int) -> bool:
    """Whether these are a few short values that come again and again."""
    if not FEWEST_ROWS <= len(texts) or not 2 <= different <= min(MOST_LABELS, len(texts) // 2):
        return False
    if _share(texts, lambda text: text.endswith(SENTENCE_ENDS)) > 0.5:
        return False
    return all(len(text) <= LABEL_CHARACTERS and len(text.split()) <= LABEL_WORDS for text in texts)


def _is_code(text: str) -> bool:
    if len(text) > LONGEST_CODE:
        return False
    return bool(ADDRESS.fullmatch(text) or (CODE.fullmatch(text) and any(map(str.isdigit, text))))


def _kind_of_values(filled: list[Any]) -> str:
    first = next((value for value in filled if not isinstance(value, str)), None)
    if isinstance(first, bool):
        return "truth"
    if isinstance(first, (int, float)):
        return "number"
    if isinstance(first, list):
        return "messages" if first and isinstance(first[0], dict) else "list"
    return "object" if isinstance(first, dict) else "other"


WHY_UNUSED = {
    "empty": "it is empty",
    "number": "numbers, which are no text to learn",
    "truth": "true or false, which is no text to learn",
    "date": "dates",
    "id": "ids, addresses or links",
    "label": "a few short values that come again and again, as of a label",
    "split": "names of train and test parts",
    "list": "lists",
    "messages": "lists of objects",
    "object": "objects",
}
