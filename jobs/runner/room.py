"""Files of an attempt on a full disk: what was found is kept in memory until there is room for it."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydralora.files import write_json

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
RETRY_SECONDS = 1.0
LITTLE_ROOM = 16 * 2**20  # bytes, with which nothing can be worked on
FULL = "the disk is full: `python -m studio doctor` says what takes the most room"
PATIENCE_SECONDS = 600.0


def lacks_room(error: OSError) -> bool:
    """Whether a write failed since the disk, or somebody's share of it, is full."""
    return error.errno in NO_ROOM


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room to work with."""
    return shutil.disk_usage(folder).free < LITTLE_ROOM


def write_when_there_is_room(path: Path, value: Any, gives_up: Callable[[], bool] = lambda: False) -> None:
    """Write JSON whole, waiting while the disk is full.

    Args:
        gives_up: Asked now and then; the wait ends where it says so.

    Raises:
        OSError: When it cannot be written for another reason, or there was no room for ``PATIENCE_SECONDS``.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            write_json(path, value)
            return
        except OSError as error:
            if not lacks_room(error) or time.monotonic() > deadline or gives_up():
                raise
        time.sleep(RETRY_SECONDS)


class Lines:
    """A file to which whole lines are added, one at a time; those that find no room wait in memory for the next."""

    def __init__(self, path: Path) -> None:
        self.path, self._waiting = path, b""
        self._file = path.open("ab", buffering=0)

    def add(self, line: str) -> None:
        """Add a line; on a full disk it waits.

        Raises:
            OSError: When the file cannot be written for another reason.
        """
        self._waiting += line.encode() + b"\n"
        try:
            self._write()
        except OSError as error:
            if not lacks_room(error):
                raise

    def settle(self, gives_up: Callable[[], bool] = lambda: False) -> None:
        """Write what waits, as soon as there is room for it.

        Raises:
            OSError: When it cannot be written for another reason, or there was no room for ``PATIENCE_SECONDS``.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._waiting:
            try:
                self._write()
            except OSError as error:
                if not lacks_room(error) or time.monotonic() > deadline or gives_up():
                    raise
                time.sleep(RETRY_SECONDS)

    def _write(self) -> None:
        """Write what waits, or as much of it as there is room for; the rest follows it."""
        while self._waiting:
            written = self._file.write(self._waiting)
            self._waiting = self._waiting[written:]
