"""The sample corpora, written by seeded generators: `python -m hydralora.samples` makes them anew.

Every example has ``prompt``, ``answer``, ``label`` (its kind, never trained on) and ``split``.
Held-out examples use phrasings that never occur in training; the skill they ask for is the same.
All text is ours and in the public domain (CC0).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from hydralora.files import SHIPPED
from hydralora.samples.likes import overlap, two_tongues
from hydralora.samples.rows import Row
from hydralora.samples.trades import four_trades, noisy
from hydralora.samples.voice import one_voice

CORPORA = SHIPPED / "corpora"
SEED = 2404  # of all sample corpora

GENERATORS: dict[str, Callable[[random.Random], Iterator[Row]]] = {
    "four-trades": four_trades,
    "one-voice": one_voice,
    "overlap": overlap,
    "noisy": noisy,
    "two-tongues": two_tongues,
}


def make_corpus(name: str) -> str:
    """The whole of one sample corpus as JSONL text; the same text every time."""
    rng = random.Random(f"{SEED} {name}")
    rows = list(GENERATORS[name](rng))
    rng.shuffle(rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_corpora(folder: Path) -> None:
    """Write every sample corpus to ``folder/<name>/<name>.jsonl``."""
    for name in GENERATORS:
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{name}.jsonl").write_text(make_corpus(name), "utf-8")
