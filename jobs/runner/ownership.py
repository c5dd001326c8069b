"""Who works on an attempt, written in its folder before any work is done, so that no attempt has two owners unseen.

A worker may die before it has stored what it started. Two files settle who was first: the attempt's first process
writes ``started.json`` and then looks for ``ended``; a worker that gives the attempt up writes ``ended`` and then looks
for ``started.json``. Whatever the order, at least one of the two sees the other.
"""

from __future__ import annotations

import json
from pathlib import Path

from hydralora.files import write_json
from jobs.runner.processes import Identity, identity

STARTED = "started.json"  # the attempt's first process
ENDED = "ended"  # there once a worker has given the attempt up


def announce(folder: Path) -> bool:
    """Write down that this process works on the attempt; whether it may."""
    write_json(folder / STARTED, identity())
    return not (folder / ENDED).exists()


def started_in(folder: Path) -> Identity:
    """Who has announced itself in the folder of an attempt; nobody where no such file can be read."""
    try:
        found = json.loads((folder / STARTED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else {}


def give_up(folder: Path) -> None:
    """From now on nothing begins to work on the attempt."""
    if folder.is_dir():
        (folder / ENDED).touch()
