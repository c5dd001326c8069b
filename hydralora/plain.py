"""What text may hold where it is stored, and where it is shown on a terminal or written into a log."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

# Control characters of both sets (a terminal obeys U+009B as it obeys ESC [), marks that turn the direction of writing,
# separators that break a line, unseen tags, and halves of a character. Tab and line feed are left to the caller.
UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSTORED = re.compile("[\x00\ud800-\udfff]")  # no database and no UTF-8 takes them
_LINE_END = re.compile(r"\s*[\n\t]\s*")
_PATH = re.compile(r"(?<![\w:/.…-])(?:/[\w.+@~%=,-]+)+/([\w.+@~%=,-]+)")  # two parts and more; no part of a URL
_QUOTED_PATH = re.compile(r"(['\"`])/(?:(?!\1)[^/\n])+(?:/(?:(?!\1)[^/\n])+)*/((?:(?!\1)[^/\n])*)\1")  # with blanks too
_SCHEME = re.compile(r"\b(file|sqlite):/*(?=/)")  # of an address that is a path
_hidden: set[str] = set()
REPLACEMENT = "\ufffd"


def plain(text: str) -> str:
    """Text that a terminal only shows: nothing in it moves the cursor, changes a colour or turns the writing."""
    return UNSHOWN.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same on one line, so that what is quoted in a log cannot look like a line of its own."""
    return _LINE_END.sub(" ", plain(text)).strip()


def hide_place(folder: Path) -> None:
    """From now on ``without_paths`` knows this folder, which may have blanks in its name, wherever it stands."""
    if folder.is_absolute():
        _hidden.update({str(folder), os.path.realpath(folder)} - {os.sep})


def without_paths(text: str) -> str:
    """The same with every absolute path cut down to its last part: a message on a page tells nothing of the machine."""
    text = _SCHEME.sub("", text)
    for place in sorted(_hidden, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.…-]){re.escape(place)}(?![\w-])", "…", text) if place in text else text
    text = _QUOTED_PATH.sub(lambda found: f"{found[1]}…/{found[2]}{found[1]}", text)
    return _PATH.sub(lambda found: "…/" + found[1], text)


def storable(text: str) -> str:
    """Text that the database and UTF-8 can hold: NUL and halves of a character become U+FFFD."""
    return _UNSTORED.sub(REPLACEMENT, text)


def shown(value: Any, limit: int = 80) -> str:
    """A refused value as a message quotes it, at most ``limit`` characters."""
    try:
        words = one_line(repr(value))
    except (ValueError, RecursionError):  # Python writes no whole number of more than 4,300 digits
        words = "(too large to be shown)"
    return words if len(words) <= limit else words[:limit] + "…"


def shortened(text: str, most: int) -> str:
    """A text without its middle where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-(most // 2) :]}"


def json_text(value: Any) -> str:
    """JSON that every reader takes: numbers that are none become null, and no character in it is unseen."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return UNSHOWN.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return REPLACEMENT
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
