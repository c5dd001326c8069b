"""The columns of a table while their parts are looked for, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hydralora import limits
from hydralora.corpus import header_words as words
from hydralora.corpus.column_facts import look_at
from hydralora.results.corpus import MANY_COLUMNS

CHOSEN = "it was chosen"


@dataclass
class Guess:
    """Roles that were found one by one, and why each column has its part."""

    roles: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()  # parts about which nothing is guessed: they were chosen, or chosen to be none

    def keep(self, role: str, columns: tuple[str, ...]) -> None:
        """Keep what was chosen for a part."""
        for column in filter(None, columns):
            self._set(role, column, CHOSEN if role != "unused" else "it was left out by choice")

    def take(self, role: str, column: str, reason: str) -> None:
        """Give a column a part, unless that was chosen already; a prompt may have several."""
        if column and role not in self.fixed:
            self._set(role, column, reason)

    def _set(self, role: str, column: str, reason: str) -> None:
        known = self.roles.get(role, ())
        self.roles[role] = (*known, column) if role in MANY_COLUMNS else column
        self.reasons[column] = reason

    def has(self, *names: str) -> bool:
        """Whether one of these parts is taken."""
        return any(self.roles.get(name) for name in names)


class Columns:
    """Columns without a part so far, with their first rows and facts."""

    def __init__(self, columns: list[str], rows: list[dict[str, Any]], has_header: bool, guess: Guess) -> None:
        self.columns, self.rows, self.has_header, self.guess = columns, rows, has_header, guess
        self.facts = {column: look_at(row.get(column) for row in rows) for column in columns}
        self.by_name = {words.plain_name(column): column for column in reversed(columns)}

    def is_complete(self) -> bool:
        taken = self.guess.roles
        return bool(taken.get("messages") or taken.get("text") or (taken.get("prompt") and taken.get("answer")))

    def free(self) -> list[str]:
        return [column for column in self.columns if column not in self.guess.reasons]

    def first(self, names: Iterable[str]) -> str:
        found = (self.by_name.get(name, "") for name in names)
        return next((column for column in found if column and column not in self.guess.reasons), "")

    def take_named(self, role: str, names: Iterable[str]) -> None:
        column = self.first(names)
        self.guess.take(role, column, f"a usual name for the {role}")

    def short(self, names: Iterable[str]) -> list[str]:
        """The names whose column holds nothing as long as a text in the first rows."""
        cells = {name: [row.get(self.by_name.get(name, "")) for row in self.rows] for name in names}
        return [
            name
            for name, found in cells.items()
            if all(len(cell) <= limits.MAX_LABEL_CHARACTERS for cell in found if isinstance(cell, str))
        ]

    def forget_guess(self, role: str) -> None:
        """Take a part back from a column that was only guessed."""
        chosen = self.guess.roles.get(role) or ()
        for column in chosen if isinstance(chosen, tuple) else (chosen,):
            if self.guess.reasons[column] != CHOSEN:
                self.guess.roles.pop(role, None)
                del self.guess.reasons[column]
