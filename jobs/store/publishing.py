"""What an attempt has made, put in its place by the transaction that ends its job.

The work writes into the attempt's own folder. Whoever ends the job moves that to where it belongs while it holds the
job's row, so that an attempt that has lost its job can change nothing there. Where this is cut short between the move
and the row, the next one finds it moved.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from hydralora.files import put_in_place, remove, written_aside

OUT = "out"  # folder of an attempt with what is to be published


def publish(attempt: Path, finals: Iterable[Path]) -> None:
    """Put each of ``finals`` that the attempt has made in its place, whole, over what was there."""
    for final in finals:
        made = attempt / OUT / final.name
        if made.exists():
            _move(made, final)


def _move(made: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if made.stat().st_dev == final.parent.stat().st_dev:
        put_in_place(made, final)
        return
    with written_aside(final) as aside:
        shutil.copytree(made, aside)
    remove(made)
