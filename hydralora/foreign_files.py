"""The files of an adapter from elsewhere, taken out of folders and archives; what is in them is not trusted."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hydralora.checkpoints import CONFIG, FACTS, WEIGHTS
from hydralora.errors import AdapterError, StoppedError

MOST_JSON = 4 * 2**20  # bytes of a configuration
MOST_WEIGHTS = 16 * 2**30  # bytes of weights
SPARE_DISK = 2**30  # bytes left free: the database must be able to write
PIECE = 2**22  # bytes copied at once

Shapes = dict[str, tuple[int, ...]]


def gather(files: list[Path], folder: Path, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Copy the files of an adapter, and nothing else, into an empty ``folder``.

    Raises:
        AdapterError: When the weights are missing, pickled or too large, or an archive is damaged.
        StoppedError: When asked to stop.
    """
    folder.mkdir(parents=True)
    listed = [path for file in files for path in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    seen: list[str] = []
    for path in listed:
        if path.suffix.lower() == ".zip":
            _unpack(path, folder, seen, should_stop)
        elif path.is_file():
            seen.append(path.name)
            if path.name in (CONFIG, WEIGHTS, FACTS):
                with path.open("rb") as source:
                    _keep(source, folder / path.name, should_stop)
    check_names(seen)


def check_names(names: list[str]) -> None:
    """Refuse files without weights, or with pickled ones only.

    Raises:
        AdapterError: Naming what is there instead.
    """
    if WEIGHTS in names:
        return
    pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth")))
    if pickled:
        raise AdapterError(
            f"{pickled[0]} is pickled, and pickled weights are never read: they can run code. Save the adapter "
            "as safetensors (PEFT: `save_pretrained(..., safe_serialization=True)`)."
        )
    raise AdapterError(f"There is no {WEIGHTS} among the files. Give it and {CONFIG}, or a zip of both.")


def _unpack(path: Path, folder: Path, seen: list[str], should_stop: Callable[[], bool]) -> None:
    """The adapter's files of an archive; names in it are compared, never used as paths."""
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                name = item.filename.rpartition("/")[2]
                seen.append(name)
                if name in (CONFIG, WEIGHTS, FACTS):
                    with archive.open(item) as source:
                        _keep(source, folder / name, should_stop)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise AdapterError(f"The archive cannot be read ({error}). Pack it again without a password.") from error


def _keep(source: Any, target: Path, should_stop: Callable[[], bool]) -> None:
    if target.exists():
        raise AdapterError(f"There are several files called {target.name}. Give one adapter at a time.")
    most = MOST_WEIGHTS if target.name == WEIGHTS else MOST_JSON
    size = 0
    with target.open("wb") as file:
        for piece in _pieces(source, target.name):
            size += len(piece)
            if size > most:
                raise AdapterError(f"{target.name} is larger than {most // 2**20:,} MiB. That is no adapter.")
            if shutil.disk_usage(target.parent).free < SPARE_DISK:
                raise AdapterError(f"The disk has no room for {target.name}. Free some space, then resume.")
            if should_stop():
                raise StoppedError("The import was stopped; nothing was kept.")
            file.write(piece)


def _pieces(source: Any, name: str) -> Iterator[bytes]:
    """The contents in pieces; trouble of a damaged archive becomes a sentence."""
    while True:
        try:
            piece = source.read(PIECE)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise AdapterError(f"{name} cannot be read ({error}). The file is damaged; copy it again.") from error
        if not piece:
            return
        yield piece


def read_shapes(path: Path) -> Shapes:
    """Shapes by name, from the head of a safetensors file.

    Raises:
        AdapterError: When it is damaged or empty.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} is damaged ({error}). Copy it again.") from error
    if not found:
        raise AdapterError(f"{path.name} is empty. Save the adapter again.")
    return found
