"""The files of an adapter from elsewhere, taken out of folders and archives; what is in them is not trusted."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydralora import limits
from hydralora.bases.weight_heads import read_head
from hydralora.errors import AdapterError
from hydralora.files import CONFIG, FACTS, WEIGHTS
from hydralora.progress import SILENT, Progress

PIECE = 2**22  # bytes copied at once
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MISSING = f"There is no {WEIGHTS} among the files. Give it and {CONFIG}, or a zip of both."
SAVE = "Save the adapter as safetensors (PEFT: `save_pretrained(..., safe_serialization=True)`)."

Shapes = dict[str, tuple[int, ...]]


def gather(files: list[Path], folder: Path, progress: Progress = SILENT) -> None:
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
            _unpack(path, folder, seen, progress)
        elif path.is_file():
            seen.append(path.name)
            if path.name in (CONFIG, WEIGHTS, FACTS):
                with path.open("rb") as source:
                    _keep(source, folder / path.name, progress, _most(path.name))
    check_names(seen)


def check_names(names: Iterable[str], missing: str = MISSING, instead: str = SAVE) -> None:
    """Refuse files without weights, or with pickled ones only, which PEFT would read.

    Args:
        names: Names of the files there are.
        missing: What to say where there are no weights at all.
        instead: What to do about pickled ones.

    Raises:
        AdapterError: Naming what is there instead.
    """
    found = sorted(names)
    if WEIGHTS in found:
        return
    pickled = next((name for name in found if name.endswith(PICKLES)), None)
    if pickled is not None:
        raise AdapterError(f"{pickled} is pickled, and pickled weights are never read: they can run code. {instead}")
    raise AdapterError(missing)


def check_folder(adapter: Path, instead: str = SAVE) -> None:
    """``check_names`` of the folder of a saved adapter.

    Raises:
        AdapterError: Naming the run, and what is there instead.
    """
    run = adapter.parent.name if adapter.name == "adapter" else adapter.name
    names = [path.name for path in adapter.iterdir()] if adapter.is_dir() else []
    check_names(names, f"{run} holds no {WEIGHTS}. Save the adapter again, or name the folder of one.", instead)


class _Archive(io.FileIO):
    """A file that is never read in large pieces, since the list of what an archive holds is read in one."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``PIECE`` bytes.

        Raises:
            AdapterError: When more are asked for.
        """
        rest = os.fstat(self.fileno()).st_size - self.tell()
        if (rest if size is None or size < 0 else min(size, rest)) > PIECE:
            raise AdapterError(
                f"The archive lists its files in more than {PIECE // 2**20} MiB. Pack the adapter alone."
            )
        return super().read(size) or b""


def _unpack(path: Path, folder: Path, seen: list[str], progress: Progress) -> None:
    """The adapter's files of an archive; names in it are compared, never used as paths."""
    try:
        with _Archive(path) as file, zipfile.ZipFile(file) as archive:  # type: ignore[type-var]
            items = archive.infolist()
            if len(items) > limits.MAX_ARCHIVE_ENTRIES:
                raise AdapterError(
                    f"The archive lists {len(items):,} files; at most {limits.MAX_ARCHIVE_ENTRIES:,} are looked at. "
                    "Pack the adapter alone."
                )
            for item in items:
                name = item.filename.rpartition("/")[2]
                seen.append(name)
                if name in (CONFIG, WEIGHTS, FACTS):
                    most = _most(name, min(item.compress_size, path.stat().st_size))
                    if item.file_size > most:
                        raise _too_large(name, most)
                    with archive.open(item) as source:
                        _keep(source, folder / name, progress, most)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise AdapterError(f"The archive cannot be read ({error}). Pack it again without a password.") from error


def _most(name: str, packed: int | None = None) -> int:
    """Bytes that a file of this name may have, where it was packed to ``packed`` bytes."""
    most = limits.MAX_WEIGHTS_BYTES if name == WEIGHTS else limits.MAX_CONFIG_BYTES
    return most if packed is None else min(most, max(limits.RATIO_FLOOR, limits.MAX_WEIGHTS_RATIO * packed))


def _too_large(name: str, most: int) -> AdapterError:
    """What to say of a file that is, or unpacks to, more than ``most`` bytes."""
    return AdapterError(
        f"{name} is larger than {most // 2**20:,} MiB, the limit for one of its kind and packed size. That is no "
        "adapter; if it is one, give it unpacked."
    )


def _keep(source: Any, target: Path, progress: Progress, most: int) -> None:
    if target.exists():
        raise AdapterError(f"There are several files called {target.name}. Give one adapter at a time.")
    size = 0
    with target.open("wb") as file:
        for piece in _pieces(source, target.name):
            size += len(piece)
            if size > most:
                raise _too_large(target.name, most)
            if shutil.disk_usage(target.parent).free < limits.SPARE_DISK_BYTES:
                raise AdapterError(f"The disk has no room for {target.name}. Free some space, then resume.")
            progress.check("The import")
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
        found: Shapes = read_head(path).shapes
    except (ValueError, OSError) as error:
        raise AdapterError(f"{path.name} {error}. Copy it again.") from error
    if not found:
        raise AdapterError(f"{path.name} is empty. Save the adapter again.")
    return found
