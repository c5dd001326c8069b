"""Which files of a home's folders belong to an artefact, and what they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydralora.files import PART, file_hash, remove
from jobs.artefacts.remote import Manifest, Seen, Stored

APART = ("adapter", "checkpoints", "lock")  # in the folder of a run: artefacts of their own, and a lock
ASIDE = (PART, ".old")
NUMBERS = "metrics.jsonl"  # of an attempt only the numbers that its checkpoints stand on


def has_parts(key: str) -> bool:
    """Whether other things lie in an artefact's folder: that of a run, or of an attempt."""
    return key.startswith(("runs/", "jobs/")) and not key.endswith("/adapter") and "/checkpoints/" not in key


def names(key: str, folder: Path) -> list[str]:
    """The files that belong to an artefact, by their names in its folder."""
    if key.startswith("jobs/"):
        return [NUMBERS] if (folder / NUMBERS).is_file() else []
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_aside = any(part.endswith(ASIDE) for part in name.parts)
        is_apart = has_parts(key) and name.parts[0] in APART
        if path.is_file() and not path.is_symlink() and not is_aside and not is_apart:
            found.append(name.as_posix())
    return found


@contextmanager
def still(key: str, folder: Path, aside: Path) -> Iterator[Path]:
    """A folder whose files do not change while they are sent: a copy of numbers to which others are still added."""
    if not key.startswith("jobs/"):
        yield folder
        return
    remove(aside)
    aside.mkdir(parents=True, mode=0o700)
    try:
        for name in names(key, folder):
            shutil.copyfile(folder / name, aside / name)
        yield aside
    finally:
        remove(aside)


def scan(key: str, folder: Path, before: Seen) -> tuple[Manifest, Seen]:
    """The files of a folder; one that has not changed since it was seen ``before`` is not read again."""
    files, seen = {}, {}
    for name in names(key, folder):
        with suppress(FileNotFoundError):
            digest = stored_hash(folder / name, before.get(name))
            size, time = _stat(folder / name)
            files[name], seen[name] = Stored(size, digest), [size, time, digest]
    return Manifest(files), seen


def seen_in(folder: Path, manifest: Manifest) -> Seen:
    """The files of a manifest as they lie in a folder now."""
    return {name: [*_stat(folder / name), file.sha256] for name, file in manifest.files.items()}


def stored_hash(path: Path, before: list[Any] | None) -> str:
    """SHA-256 of a file, as it was seen ``before`` where size and time of change are the same."""
    if before and tuple(before[:2]) == _stat(path):
        return str(before[2])
    return file_hash(path)


def link(file: Path, place: Path) -> None:
    """The same file at a second place; a copy where the disk knows no links."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copy2(file, place)


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
