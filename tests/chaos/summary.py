"""What came of many runs, added up over several pieces: `N of N`, with the number of each that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def fraction(text: str) -> tuple[int, int]:
    """The numbers of "3 of 4"."""
    passed, _, number = text.partition(" of ")
    return int(passed), int(number)


def add_up(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """All pieces as one answer, which keeps them."""
    by_fault: dict[str, tuple[int, int]] = {}
    for piece in pieces:
        for name, text in piece["by_fault"].items():
            passed, number = fraction(text)
            before = by_fault.get(name, (0, 0))
            by_fault[name] = before[0] + passed, before[1] + number
    return {
        "runs": sum(piece["runs"] for piece in pieces),
        "passed": sum(piece["passed"] for piece in pieces),
        "by_fault": {name: f"{passed} of {number}" for name, (passed, number) in sorted(by_fault.items())},
        "slowest_to_be_true": max((piece["slowest_to_be_true"] for piece in pieces), default=0.0),
        "pieces": pieces,
    }


def keep(file: Path, piece: dict[str, Any]) -> dict[str, Any]:
    """Add a piece to those in a file; the same runs of the same seed, done again, take the place of earlier ones."""
    pieces = json.loads(file.read_text("utf-8"))["pieces"] if file.exists() else []
    same = ("what", "seed", "first")
    pieces = [one for one in pieces if any(one[name] != piece[name] for name in same)]
    pieces.append(piece)
    summary = add_up(sorted(pieces, key=lambda one: tuple(str(one[name]) for name in same)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return summary
