"""Files on their way in: copied (or moved) into the studio's folder before any lock of the database is taken."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydralora.corpus.archives import list_folder
from hydralora.errors import UserError
from jobs.home import Home


@contextmanager
def taken_in(home: Home, files: list[Path], *, keep: bool) -> Iterator[Callable[[str], list[str]]]:
    """Copy files aside, or move them where they need not be kept.

    Gives a function that settles them under a name within the caller's transaction, and tells where each is, below
    ``home.uploads``; what has not been settled is removed at the end.

    Raises:
        UserError: When a file cannot be copied, or is none.
    """
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=home.uploads))
    places = [Path(str(number)) / safe_file_name(file.name) for number, file in enumerate(files)]

    def settle(name: str) -> list[str]:
        folder = home.uploads / name
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
        home.artefacts.pend(folder)
        return [str(Path(name) / place) for place in places]

    try:
        for file, place in zip(files, places, strict=True):
            (aside / place).parent.mkdir()
            if file.is_dir():
                _copy_folder(file, aside / place)
            elif file.exists() and not file.is_file():
                raise UserError(f"{file.name} is a device or a pipe, not a file. Choose a file or a folder.")
            else:
                (shutil.copyfile if keep else shutil.move)(file, aside / place)
        yield settle
    except OSError as error:
        raise UserError(f"{error.filename or files[0].name}: {error.strerror}. Choose another file.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_folder(folder: Path, place: Path) -> None:
    """Copy the files below a folder; links that lead out of it are refused before anything is copied."""
    list_folder(folder, folder.name)
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(".*"))


def safe_file_name(name: str) -> str:
    """The last part of an uploaded name, reduced to harmless characters; its ending is kept."""
    kept = re.sub(r"[^\w.\- ()]+", "_", Path(name.replace("\\", "/")).name)[-100:].lstrip(".")
    return kept or "file"
