"""The file in which an attempt leaves the numbers of its steps, a line of JSON each."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydralora.bounds import LARGEST_ID

FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Metrics:
    """Steps ``{"run_id", "step", "values"}`` of some whole lines.

    Args:
        offset: The byte at which the next line begins.
        problem: What is wrong with the first line that cannot be read, as a sentence; None where all can.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0
    problem: str | None = None


def read_metrics(folder: Path, run_id: int | None, offset: int = 0) -> Metrics:
    """Whole lines of the file in ``folder`` from byte ``offset`` on; those that are damaged, or no step of this run,
    are left out."""
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return Metrics(offset=offset)
    whole = data[: data.rfind(b"\n") + 1]  # what follows is being written, or was cut short
    steps, problem, place = [], None, offset
    for line in whole.splitlines(keepends=True):
        step = _step(line, run_id)
        if step is not None:
            steps.append(step)
        elif problem is None:
            problem = (
                f"{FILE} of this attempt is damaged: the line at byte {place:,} holds no step of this run. All others "
                "are kept."
            )
        place += len(line)
    return Metrics(steps, offset + len(whole), problem)


def _step(line: bytes, run_id: int | None) -> dict[str, Any] | None:
    """What a line says, numbers that are none left out; None where it is no step of this run."""
    try:
        item = json.loads(line)
        values = {str(name): value for name, value in item["values"].items() if _is_finite(value)}
        is_step = type(item["step"]) is int and 0 <= item["step"] <= LARGEST_ID
        return (
            {"run_id": run_id, "step": item["step"], "values": values} if is_step and item["run_id"] == run_id else None
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _is_finite(value: Any) -> bool:
    """Whether every number in it is one: no curve shows another, and databases differ in what they keep of it."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, (int, float)) or math.isfinite(value)
