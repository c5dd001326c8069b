"""What is told of an edit, in the same words on the page and in commands."""

from __future__ import annotations

from hydralora.corpus.examples import EXTRA
from hydralora.corpus.turns import SYSTEM, Turn
from jobs.store.edits import Edit


def changed_words(edit: Edit) -> str:
    """What else than prompt and answer of a conversation differs from the import; empty for most."""
    places = sorted(map(int, edit.more.get("turns", {})))
    told = ["system text"] if "system" in edit.more else []
    told += [f"turn{'s' * (len(places) > 1)} {', '.join(map(str, places))}"] if places else []
    told += ["calls of tools"] if EXTRA in edit.more else []
    return "; ".join(told)


def turn_title(turn: Turn) -> str:
    """A turn of a conversation, to be chosen."""
    calls = ", calls tools" if turn.calls else ""
    return "system text" if turn.place == SYSTEM else f"turn {turn.place}, {turn.role}{calls}"
