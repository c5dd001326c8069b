"""The turns of a conversation as somebody edits them: roles stay, texts and calls of tools can be written anew.

A turn with calls of tools holds them twice: as chat templates read them (in ``Example.extra``), and written behind its
text for a base whose template knows none. Here both are made of one text and one list of calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from hydralora.checked_json import parse_list
from hydralora.corpus.examples import Example
from hydralora.corpus.shapes.messages import calls_of, with_calls
from hydralora.errors import CorpusError
from hydralora.plain import shown

SYSTEM = -1  # place of the system text; the turns count from 0


@dataclass(frozen=True)
class Turn:
    """One message; ``calls`` are its calls of tools as a JSON list, empty where it has none."""

    place: int
    role: str
    text: str
    calls: str = ""


def is_conversation(example: Example) -> bool:
    """Whether an example is more than a prompt with its answer."""
    return bool(example.history or example.extra)


def turns_of(example: Example) -> list[Turn]:
    """The turns of an example in order, its system text first where it has one; plain text has no prompt."""
    beside, count = _beside(example), len(example.history)
    asked = [(count, "user", example.prompt)] if example.prompt else []
    said = [*((i, *turn) for i, turn in enumerate(example.history)), *asked, (count + 1, "assistant", example.answer)]
    turns = [_turn(place, role, text, beside.get(str(place), {})) for place, role, text in said]
    return [*([Turn(SYSTEM, "system", example.system)] if example.system else []), *turns]


def turn_at(example: Example, place: int) -> Turn:
    """One turn of an example.

    Raises:
        CorpusError: When there is none at this place.
    """
    turns = {turn.place: turn for turn in turns_of(example)}
    if place not in turns:
        words = ", ".join("system" if one == SYSTEM else str(one) for one in turns)
        raise CorpusError(f"There is no turn {shown(place)} in this row. It has: {words}.")
    return turns[place]


def with_turn(example: Example, place: int, text: str | None = None, calls: str | None = None) -> Example:
    """An example with another text, or other calls of tools, in one of its turns; what is None stays.

    Raises:
        CorpusError: When there is no such turn, nothing would stand in it, it has no calls that could be edited, or
            these are none.
    """
    turn = turn_at(example, place)
    text = turn.text if text is None else text
    if calls is not None and not turn.calls and calls.strip():
        raise CorpusError(f"Turn {place} calls no tool, so there are no calls to edit. Edit its text.")
    if not turn.calls:
        if turn.text.strip() and not text.strip():
            raise CorpusError(f"Turn {_name(place)} is empty. Write a text, or leave the row out.")
        return _put(example, place, text)
    found = _checked_calls(turn.calls if calls is None else calls)
    details = example.details()
    beside = details["messages"][str(place)]
    if (beside["content"], beside["tool_calls"]) == (text, found):
        return example
    details["messages"][str(place)] = {**beside, "content": text, "tool_calls": found}
    extra = json.dumps(details, ensure_ascii=False)
    return replace(_put(example, place, with_calls(text, found)), extra=extra)


def _turn(place: int, role: str, text: str, beside: dict[str, Any]) -> Turn:
    calls = beside.get("tool_calls")
    if not calls:
        return Turn(place, beside.get("role", role), text)
    written = json.dumps(calls, ensure_ascii=False, indent=1)
    return Turn(place, beside.get("role", role), beside.get("content", ""), written)


def _beside(example: Example) -> dict[str, Any]:
    found: dict[str, Any] = example.details().get("messages", {})
    return found


def _put(example: Example, place: int, text: str) -> Example:
    count = len(example.history)
    if place == SYSTEM:
        return replace(example, system=text)
    if place >= count:
        return replace(example, prompt=text) if place == count else replace(example, answer=text)
    turns = [(role, text if i == place else said) for i, (role, said) in enumerate(example.history)]
    return replace(example, history=tuple(turns))


def _checked_calls(text: str) -> list[dict[str, Any]]:
    """Calls of tools as somebody wrote them, in the form that chat templates read.

    Raises:
        CorpusError: When it is no JSON list of calls, each with the name of a tool and an object of arguments.
    """
    try:
        given = parse_list(text.encode("utf-8", "replace"))
    except ValueError as error:
        raise CorpusError(f"The calls of tools are no list that can be read: it {error}.") from error
    calls = calls_of(given)
    right = sum(isinstance(call["function"]["arguments"], dict) for call in calls)
    if not given or right < len(given):
        raise CorpusError(
            'Each call of a tool is an object such as {"name": "find", "arguments": {"item": 3}}, and there is one at '
            f"least; {right} of {len(given)} are right. Mend the others."
        )
    return calls


def _name(place: int) -> str:
    return "system" if place == SYSTEM else str(place)
