"""What the tabs of Compare share: what is looked at, and the two runs that stand beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.store.run_list import RunLine
from studio.cards import Markup
from studio.comparison.groups import Compared
from studio.pages.compare.asked import Asked
from studio.pages.controls import select
from studio.pages.page import Changes, Part

MOST_CHOICES = 200  # runs in a chooser


@dataclass(frozen=True)
class Look:
    """What is compared, what the address asks for, and a number that changes with what is stored of it."""

    compared: Compared
    asked: Asked
    version: int


class CompareTab(Part):
    """One tab: it draws into a column of its own, which is seen while the tab is chosen."""

    name: str

    def live(self) -> list[Any]:
        """The components that ``show`` fills."""
        raise NotImplementedError

    def show(self, look: Look) -> Changes:
        """What it shows."""
        raise NotImplementedError

    def state(self, look: Look) -> Any:
        """Anything beside the runs that changes what is shown, such as how far an analysis is."""
        return None


def pair_of(compared: Compared, asked: Asked) -> tuple[RunLine, RunLine] | None:
    """A and B: as the address names them, else the first run of the first two groups; None where there is one run."""
    lines = {line.id: line for line in compared.lines}
    if len(lines) < 2:
        return None
    firsts = [_with_answers(group.lines) for group in compared.groups]
    usual = firsts if len(firsts) > 1 else compared.lines
    a = lines.get(asked.a) or next(line for line in usual if line.id != asked.b)
    b = lines.get(asked.b)
    if b is None or b.id == a.id:
        b = next((line for line in [*usual, *compared.lines] if line.id != a.id), None)
    return (a, b) if b is not None else None


def _with_answers(lines: tuple[RunLine, ...]) -> RunLine:
    return next((line for line in lines if line.score is not None), lines[0])


def choosers(compared: Compared, pair: tuple[RunLine, RunLine]) -> list[Markup]:
    """Which runs are A and B."""
    named = {str(line.id): f"{line.name} (run {line.id})" for line in compared.lines[:MOST_CHOICES]}
    named |= {str(line.id): f"{line.name} (run {line.id})" for line in pair}
    return [select(name, name.upper(), named, str(line.id)) for name, line in zip("ab", pair, strict=True)]
