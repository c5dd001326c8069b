"""The results in words: one table for each file, made of the types themselves."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import hydralora.results as package
from hydralora.results.base import Part, Result

HEAD = """# Results

What analyses write, one JSON file a kind, and what its fields mean. `hydralora.results` has a type for each: read one
with `Routing.read(folder)`, whatever version wrote it. This page is printed by `python -m hydralora.results`, and a
test compares it with the types.

Losses and their changes are nats per answer token. Layers, experts, clusters and examples count from 0; pages call
expert 0 E1 and cluster 0 C1. What an earlier version did not write has the default of its type. *or null* is said where
a field may hold nothing.
"""


def result_types() -> list[type[Result]]:
    """Every result that a module of ``hydralora.results`` has, by the name of its file."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    found = [kind for kind in Result.__subclasses__() if kind.__module__.startswith(f"{package.__name__}.")]
    return sorted(found, key=lambda kind: kind.FILE)


def page() -> str:
    """The whole page, in Markdown."""
    sections, told = [HEAD], set[type[BaseModel]]()
    for result in result_types():
        sections.append(f"## {_title(result)}\n\n{_about(result)}\n\n{_table(result)}")
        for part in _parts(result):
            if part not in told:
                told.add(part)
                sections.append(f"### {part.__name__}\n\n{_about(part)}\n\n{_table(part)}")
    return "\n".join(sections)


def _title(result: type[Result]) -> str:
    return f"`{result.FILE.replace('{step}', 'STEP')}` ({result.__name__})"


def _about(part: type[BaseModel]) -> str:
    words = inspect.cleandoc(part.__doc__ or "").partition("\n\nAttributes:")[0]
    return _plain(" ".join(words.split()))


def _table(part: type[BaseModel]) -> str:
    rows = [
        f"| `{field.alias or name}` | {_kind(field)} | {_plain(field.description or '')} |"
        for name, field in _fields(part)
    ]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows, ""])


def _fields(part: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return list(part.model_fields.items())


def _plain(text: str) -> str:
    """Code in single backticks, as Markdown has it, and bars that end no cell."""
    return re.sub(r"``(.+?)``", r"`\1`", text).replace("|", r"\|")


def _kind(field: FieldInfo) -> str:
    return _words(field.annotation)


def _words(kind: Any) -> str:
    """A type as words: ``list of float``, ``int or null``."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        return " or ".join("null" if one is type(None) else _words(one) for one in inner)
    if origin in (list, tuple):
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"{_words(inner[1])} by name"
    return str(getattr(kind, "__name__", kind))


def _parts(part: type[BaseModel]) -> Iterator[type[Part]]:
    """The types inside a type, in the order of its fields, each followed by those inside it."""
    for _, field in _fields(part):
        for inner in _inside(field.annotation):
            yield inner
            yield from _parts(inner)


def _inside(kind: Any) -> Iterator[type[Part]]:
    if isinstance(kind, type) and issubclass(kind, Part):
        yield kind
    for inner in get_args(kind):
        yield from _inside(inner)
