"""Files that are whole: written aside and renamed, and checkpoints sealed with the hashes of their files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMPLETE = "complete.json"
NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)  # of file systems whose folders cannot be flushed
CHECKPOINT = re.compile(r"checkpoint-[0-9]+")
PART = ".part"  # ends the name of what is being written
CONFIG, WEIGHTS, FACTS = "adapter_config.json", "adapter_model.safetensors", "run.json"  # of a saved adapter
# What ships with the library: inside it where it was installed, beside it in a checkout.
_HERE = Path(__file__).resolve().parent
SHIPPED = _HERE / "shipped" if (_HERE / "shipped").is_dir() else _HERE.parent / "data"
START = "start"  # folder of a run with its adapter before the first step


def seal_checkpoint(folder: Path) -> None:
    """Flush a checkpoint's files and write their hashes; from now on it can be resumed from."""
    _sync(folder)
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.name != COMPLETE}
    write_json(folder / COMPLETE, {"files": files})


def last_checkpoint(run_folder: Path) -> Path | None:
    """The newest checkpoint that is complete and unchanged since we wrote it, or None."""
    for folder in reversed(_checkpoints(run_folder / "checkpoints")):
        try:
            files = json.loads((folder / COMPLETE).read_text("utf-8"))["files"]
            if all(file_hash(folder / name) == digest for name, digest in files.items()):
                return folder
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # cut short while it was written; an older one is looked for
    return None


def list_checkpoints(run_folder: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, in order."""
    return [step_of(folder) for folder in _checkpoints(run_folder / "checkpoints") if (folder / COMPLETE).exists()]


def drop_checkpoints(folder: Path, keep: int, best: str = "") -> None:
    """Delete the oldest sealed checkpoints until ``keep`` are left, and older ones that were cut short.

    The newest sealed one stays, and the one called ``best``. A seal is broken before what it vouches for.
    """
    found = _checkpoints(folder)
    sealed = [place for place in found if (place / COMPLETE).exists()]
    spare = [place for place in sealed[:-1] if place.name != best]
    parts = [place for place in found[: found.index(sealed[-1])] if place not in sealed] if sealed else []
    for place in [*spare[: max(0, len(sealed) - keep)], *parts]:
        (place / COMPLETE).unlink(missing_ok=True)
        remove(place)


def _checkpoints(folder: Path) -> list[Path]:
    """Folders of checkpoints in order of their steps, whole or not; nothing of another name."""
    return sorted((place for place in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(place.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits; of a folder, over the names and hashes of the files below it."""
    if path.is_dir():
        below = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("".join(f"{name}\0{file_hash(file)}\n" for name, file in below).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def read_columns(path: Path, *names: str) -> Any:
    """Columns of a Parquet file of ours as an Arrow table, read by this thread alone.

    ``pyarrow.parquet.read_table`` loads Arrow's data set library for it and starts threads: 40 MB of a process.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False) as file:
        return file.read(columns=list(names), use_threads=False)


@contextmanager
def written_aside(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Where to write the file or folder that shall stand at ``path``: beside it, put in its place at the end.

    What was written is flushed to disk first, so a reader sees the old one or the new one, whole; when the block
    raises, the old one stays and nothing else is left. One writer at a time. Without ``flush`` that holds as long as
    the machine does: for news that the next write makes old.
    """
    aside = path.with_name(path.name + PART)
    remove(aside)
    try:
        yield aside
        if flush:
            _sync(aside)
        _put(aside, path)
        if flush:
            _flush(path.parent)  # else the new name may not outlive a power cut
    except BaseException:
        remove(aside)
        raise


def put_in_place(made: Path, path: Path) -> None:
    """Rename what is whole to ``path``, flushed to disk before and after; both lie on one disk."""
    _sync(made)
    _put(made, path)
    _flush(path.parent)


def _put(aside: Path, path: Path) -> None:
    """Rename over ``path``; a folder, which cannot be renamed over, steps aside first."""
    old = path.with_name(path.name + ".old")
    if path.is_dir():
        remove(old)
        os.replace(path, old)
    os.replace(aside, path)
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flush a file, or a folder with all that is in it, to disk."""
    for inner in [*path.rglob("*"), path] if path.is_dir() else [path]:
        _flush(inner)


def _flush(path: Path) -> None:
    """Flush one file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in NOT_FOR_FOLDERS):
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, mode: int = 0o666, flush: bool = True) -> None:
    """Write JSON aside, flush it, then rename; ``mode`` is who may read and write it, less the process's umask."""
    with written_aside(path, flush=flush) as aside:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
