"""Rows that hold further rows or columns inside one column, laid flat before roles are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydralora.corpus.shapes.values import parsed

INSTANCES, TRANSLATION = "instances", "translation"


@dataclass(frozen=True)
class Unfolding:
    """What is laid flat: the column, and how sentences call it."""

    column: str = ""
    name: str = ""

    def rows(self, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows that one row holds; the row itself where it holds none."""
        inner = parsed(values.get(self.column)) if self.column else None
        rest = {key: value for key, value in values.items() if key != self.column}
        if isinstance(inner, dict):
            yield {**rest, **inner}
        elif isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
            for item in inner:
                yield {**rest, **item}
        else:
            yield values


def find_unfolding(rows: list[dict[str, Any]]) -> Unfolding:
    """What the first rows hold that must be laid flat; nothing for most tables."""
    for column, name, test in ((INSTANCES, "self-instruct", _are_instances), (TRANSLATION, "translation", _is_pair)):
        cells = [parsed(row[column]) for row in rows if row.get(column)]
        if cells and all(map(test, cells)):
            return Unfolding(column, name)
    return Unfolding()


def _are_instances(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "output" in item for item in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and len(value) >= 2 and all(isinstance(text, str) for text in value.values())
