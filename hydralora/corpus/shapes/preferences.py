"""The worse answer of a preference: a text, or the last message of a conversation that begins as the better one."""

from __future__ import annotations

from typing import Any, Protocol

from hydralora import limits
from hydralora.corpus.shapes.messages import Turn, is_messages, turns_of
from hydralora.corpus.shapes.values import Tally, text_of
from hydralora.corpus.shapes.wrapped import Family, unwrap


class Asked(Protocol):
    """What both answers follow on."""

    @property
    def prompt(self) -> str: ...
    @property
    def history(self) -> tuple[tuple[str, str], ...]: ...


def find_worse(value: Any, asked: Asked, family: Family | None, tally: Tally) -> str:
    """The worse answer as a text; empty where it is none that can be compared with the better one.

    That is so where the two conversations differ before their last answers, where the last message is no answer or
    calls tools, where a list holds several answers, and where it is too long or holds half a character.

    Raises:
        CorpusError: When it is bytes, or messages that cannot be read.
    """
    turns = _turns(value, family, tally)
    if turns is not None:
        text = _last(turns, asked)
    elif isinstance(value, list):
        text = ""
    else:
        text = text_of(value, tally)
    return text if len(text) <= limits.MAX_CHARACTERS and _is_whole(text) else ""


def _turns(value: Any, family: Family | None, tally: Tally) -> list[Turn] | None:
    """The turns of messages, or of a text that lies in a chat template; None where it is neither."""
    if is_messages(value):
        return turns_of(value, "rejected", tally)
    if family is None or not isinstance(value, str) or len(value) > limits.MAX_CHARACTERS:
        return None
    turns = unwrap(value, family)
    return None if not turns else [Turn(role, content) for role, content in turns]


def _last(turns: list[Turn], asked: Asked) -> str:
    """The last answer, where what stands before it is what stands before the better one."""
    *before, last = [turn for turn in turns if turn.role != "system"] or [Turn("user", "")]
    said = [content for _, content in asked.history] + [asked.prompt]
    is_same = not before or [turn.content for turn in before] == said[-len(before) :]
    return last.content if last.role == "assistant" and not last.more and is_same else ""


def _is_whole(text: str) -> bool:
    """Whether it can be written: half of a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
