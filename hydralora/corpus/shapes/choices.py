"""Questions with several choices: the answer as a letter, a number or a text becomes the text of the choice."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydralora.corpus.header_words import CHOICES, plain_name
from hydralora.corpus.shapes.values import Tally, parsed, text_of
from hydralora.errors import CorpusError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
NUMBERED = re.compile(
    r"(choice|option|answer|ending|alternative|distractor|sol|op|opt|opción|option_|antwort|auswahl)?([0-9a-e])"
)
FEWEST = 2
MANY = 20  # answers among which the first choice is right at least once


@dataclass(frozen=True)
class Choices:
    """How the answer of a table names a choice: ``letter``, ``number`` (counted from ``base``) or ``text``.

    ``doubt`` says why it may be another way; empty where nothing speaks for one.
    """

    columns: tuple[str, ...]
    kind: str
    base: int = 0
    doubt: str = ""

    def texts(self, values: dict[str, Any], tally: Tally) -> list[str]:
        """The choices of one row; empty ones at the end are none."""
        return _texts(values, self.columns, tally)

    def right_one(self, answer: Any, texts: Sequence[str], labels: Sequence[str], tally: Tally) -> str:
        """The text of the choice that the answer names.

        Raises:
            CorpusError: When it names none.
        """
        said = text_of(answer, tally)
        place = _place(said, self.kind, self.base, labels)
        if self.kind == "text" or place is None:
            if said in texts:
                return said
        elif place < len(texts):
            return texts[place]
        raise CorpusError(f"the answer {said[:40]!r} names none of the {len(texts)} choices")


def choice_columns(columns: list[str], rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """The columns A, B, C, D (choice0 ..., option_a ...), or the one that lists the choices; empty without any."""
    families: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        found = NUMBERED.fullmatch(re.sub(r"[_\s\-]", "", column.lower()))
        if found:
            families.setdefault(found[1] or "", []).append((found[2], column))
    for stem, members in families.items():
        marks = "".join(mark for mark, _ in members)
        needed = FEWEST if stem else FEWEST + 1
        if len(members) >= needed and (marks in "0123456789" or marks in "abcde") and (stem or not marks.isdigit()):
            return tuple(column for _, column in members)
    for column in columns:
        if plain_name(column) in CHOICES and any(_listed(row.get(column)) for row in rows):
            return (column,)
    return ()


def find_choices(columns: tuple[str, ...], answer: str, rows: list[dict[str, Any]]) -> Choices | None:
    """How the answers of the first rows name their choices; None where they do not."""
    tally, pairs = Tally(), []
    for row in rows:
        texts, said = _texts(row, columns, tally), text_of(row.get(answer), tally)
        if said and len(texts) >= FEWEST:
            pairs.append((said, texts, labels_of(row, columns)))
    if not pairs:
        return None
    letters = [(_letter(said, labels), len(texts)) for said, texts, labels in pairs]
    if all(place is not None and place < count for place, count in letters):
        return Choices(columns, "letter")
    numbers = [int(said) for said, _, _ in pairs if said.isdecimal() and len(said) < 3]
    in_range = len(numbers) == len(pairs) and all(
        n <= len(texts) for n, (_, texts, _) in zip(numbers, pairs, strict=True)
    )
    as_text = sum(said in texts for said, texts, _ in pairs)
    if in_range and as_text < len(pairs):
        beyond = any(n == len(texts) for n, (_, texts, _) in zip(numbers, pairs, strict=True))
        base = int(beyond and 0 not in numbers)
        return Choices(columns, "number", base, _doubt(numbers, base, as_text))
    both = "the answers are places of choices as well as their texts" if in_range else ""
    return Choices(columns, "text", doubt=both) if as_text * 2 >= len(pairs) else None


def _doubt(numbers: list[int], base: int, as_text: int) -> str:
    """Why numbers may not be places counted from ``base``."""
    if as_text:
        return f"{as_text} of {len(numbers)} answers are texts of a choice too"
    if base == 0 and 0 not in numbers and len(numbers) >= MANY:
        return f"0 does not occur in {len(numbers)} answers, so they may count from 1"
    return ""


def labels_of(values: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    """The names that the choices have in the data itself (``{"text": [...], "label": ["A", ...]}``)."""
    value = parsed(values.get(columns[0])) if len(columns) == 1 else None
    found = value.get("label") if isinstance(value, dict) else None
    return [str(label) for label in found] if isinstance(found, list) else []


def with_choices(question: str, texts: Sequence[str]) -> str:
    """The question with its choices below, lettered."""
    return "\n".join([question, *(f"{LETTERS[i]}. {text}" for i, text in enumerate(texts[: len(LETTERS)]))])


def _texts(values: dict[str, Any], columns: tuple[str, ...], tally: Tally) -> list[str]:
    if len(columns) > 1:
        texts = [text_of(values.get(column), tally) for column in columns]
        while texts and not texts[-1]:
            texts.pop()
        return texts
    return [text_of(item, tally) for item in _listed(values.get(columns[0])) or []]


def _listed(value: Any) -> list[Any] | None:
    value = parsed(value)
    if isinstance(value, dict):
        value = value["text"] if isinstance(value.get("text"), list) else list(value.values())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = [item.get("text", item.get("content")) for item in value if isinstance(item, dict)]
    return (
        value if isinstance(value, list) and len(value) >= FEWEST and not isinstance(value[0], (list, dict)) else None
    )


def _letter(said: str, labels: Sequence[str]) -> int | None:
    if said in labels:
        return labels.index(said)
    found = LETTER.fullmatch(said)
    return LETTERS.index(found[1].upper()) if found else None


def _place(said: str, kind: str, base: int, labels: Sequence[str]) -> int | None:
    if kind == "letter":
        return _letter(said, labels)
    if kind == "number" and said.isdecimal() and len(said) < 3:
        return int(said) - base if int(said) >= base else None
    return None
