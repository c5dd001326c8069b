"""Folders of the studio as a zip or a copy: whole regular files by name, and nothing that a link leads to."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hydralora.errors import UserError

DOWNLOADS = {
    "adapter_config.json",
    "run.json",
    "README.md",
    "export.json",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "Modelfile",
}
WEIGHTS = (".safetensors", ".gguf")
IN_MEMORY = 64 * 2**20  # bytes; a larger archive is laid down on disk while it is sent
DEEPEST = 2  # parts of a name in an archive: in the folder, and right below it
EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip knows no earlier time


def pack(folder: Path) -> IO[bytes]:
    """A zip, at its beginning, of the files we write ourselves: those in the folder and right below it.

    Raises:
        UserError: When the folder is not there.
    """
    packed = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in files_below(folder):
            known = name.name in DOWNLOADS or name.suffix in WEIGHTS
            if not known or len(name.parts) > DEEPEST:
                continue
            with open_plain(folder / name) as file:
                entry = zipfile.ZipInfo(str(name), EARLIEST)
                entry.external_attr = 0o600 << 16
                entry.file_size = os.fstat(file.fileno()).st_size
                with archive.open(entry, "w") as target:
                    shutil.copyfileobj(file, target)
    packed.seek(0)
    return packed  # type: ignore[return-value]  # it reads, seeks and closes as a file does


def copy(folder: Path, to: Path) -> None:
    """Every regular file of a folder, at any depth, as a new folder.

    Raises:
        UserError: When the folder is not there, or the new one cannot be written.
    """
    names = files_below(folder)
    try:
        to.mkdir(parents=True)
        for name in names:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            with open_plain(folder / name) as file, (to / name).open("xb") as target:
                shutil.copyfileobj(file, target)
    except OSError as error:
        raise UserError(f"{to} cannot be written ({error.strerror}). Name another folder.") from error


def files_below(folder: Path) -> list[Path]:
    """Names, relative to the folder, of its regular files; a link is passed over wherever it stands."""
    if folder.is_symlink() or not folder.is_dir():
        raise UserError("The adapter's files are no longer there. Train the run again.")
    found = [Path(place) / name for place, _, names in os.walk(folder) for name in names]  # enters no link
    return sorted(path.relative_to(folder) for path in found if stat.S_ISREG(path.lstat().st_mode))


@contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, opened for reading; what has become a link or a pipe meanwhile is refused."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise UserError(f"{path.name} is not a regular file any more. Train the run again.")
        yield file
