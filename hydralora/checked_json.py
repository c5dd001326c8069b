"""JSON files of strangers, read within bounds: size, depth, finite numbers. Whoever reads one says whose file it is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from hydralora.plain import shown

MOST_BYTES = 4 * 2**20  # of one file
MOST_DEPTH = 24  # brackets inside brackets; a nested vision model has six
MOST_DIGITS = 40  # of a whole number; tokenizers write 10^30 for "no limit"
SHOWN = 80  # characters of a refused value in a sentence


def read_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: With what is wrong, to stand behind the file's name: "is not valid JSON (...)".
    """
    if not path.is_file():  # a named pipe would be read for ever
        raise ValueError("is no ordinary file")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes // 2**20:,} MiB")
    return parse_object(content)


def parse_object(content: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8 text; ``read_object`` without the file.

    Raises:
        ValueError: With what is wrong, to stand behind a name.
    """
    found = _parse(content)
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__}, not a JSON object")
    return found


def parse_list(content: bytes) -> list[Any]:
    """The JSON list in UTF-8 text, within the same bounds.

    Raises:
        ValueError: With what is wrong, to stand behind a name.
    """
    found = _parse(content)
    if not isinstance(found, list):
        raise ValueError(f"holds a {type(found).__name__}, not a JSON list")
    return found


def _parse(content: bytes) -> Any:
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from error
    if _is_deeper(found, MOST_DEPTH):
        raise ValueError(f"is nested more than {MOST_DEPTH} levels deep")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:SHOWN]} is no finite number")
    return number


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def first_problem(error: ValidationError) -> str:
    """The first thing a schema refuses: name, rule, value."""
    detail = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in detail["loc"])[:SHOWN]
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if not name:
        return message
    return f"`{name}`: {message[0].lower()}{message[1:]}, got {shown(detail['input'])}"
