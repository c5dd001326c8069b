"""JSON that a stranger sends: an object, bounded in depth and number before anything looks into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jobs.http import Refused

MOST_DEPTH = 12  # lists and objects within each other
MOST_VALUES = 20_000  # in one payload


def parse_payload(body: bytes) -> dict[str, Any]:
    """The JSON object of an event, bounded in depth and number.

    Raises:
        Refused: When it is none.
    """
    try:
        payload = json.loads(body or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(422, "This is not valid JSON.") from None
    if not isinstance(payload, dict):
        raise Refused(422, "This is not a JSON object.")
    for count, (depth, _) in enumerate(walk(payload)):
        if depth > MOST_DEPTH or count > MOST_VALUES:
            raise Refused(422, "This JSON holds too much.")
    return payload


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def walk(value: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """All values within a value, with their depth."""
    pending = [(depth, value)]
    while pending:
        level, item = pending.pop()
        yield level, item
        if level > MOST_DEPTH:
            continue
        inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        pending.extend((level + 1, child) for child in inside)
