"""What a home knows of its artefact store: what waits for it, what both agreed on last, and who is at it now."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydralora.files import remove, write_json
from jobs.artefacts.address import StoreError
from jobs.artefacts.remote import Seen

FOLDER = "artefacts"  # of a home, once it has or had a store
SEND, DROP = "send", "drop"  # folders in it: a file for each artefact that waits for one or the other


class Notes:
    """The notes of one home, by the keys of artefacts (`runs/7/adapter`)."""

    def __init__(self, root: Path, url: str) -> None:
        self.place, self._url = root / FOLDER, url

    def add(self, what: str, key: str) -> None:
        """Note that an artefact waits to be sent, or dropped."""
        note = self.path(what, key)
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        note.write_text(str(time.time_ns()), "ascii")

    def path(self, what: str, key: str) -> Path:
        """The file that is there while an artefact waits."""
        return self.place / what / key.replace("/", "+")

    def waits(self, key: str) -> bool:
        """Whether an artefact waits for anything."""
        return any(self.path(what, key).exists() for what in (SEND, DROP))

    def waiting(self) -> list[tuple[str, str]]:
        """What waits, the oldest first: ``SEND`` or ``DROP``, and the key."""
        notes = [note for what in (DROP, SEND) for note in (self.place / what).glob("*")]
        notes.sort(key=lambda note: changed(note) or 0)
        return [(note.parent.name, note.name.replace("+", "/")) for note in notes]

    def known(self, key: str) -> dict[str, Any]:
        """``mark`` of the manifest that both agreed on last, and ``files`` as they were ``Seen`` then; empty before."""
        try:
            found = json.loads(self._known(key).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("url") == self._url else {}

    def remember(self, key: str, mark: str, seen: Seen) -> None:
        """Keep what both agree on now."""
        self._known(key).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(self._known(key), {"url": self._url, "mark": mark, "files": seen}, flush=False)

    def forget(self, key: str) -> None:
        """Forget an artefact and all below it."""
        self._known(key).unlink(missing_ok=True)
        remove(self._known(key).with_suffix(""))
        self.path(DROP, key).unlink(missing_ok=True)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Be the only process of this home that sends or fetches an artefact.

        Raises:
            StoreError: When the home cannot be written.
        """
        place = self.place / "locks"
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (place / key.replace("/", "+")).open("a")
        except OSError as error:
            raise StoreError(f"{key} cannot be kept in this home ({error.strerror}). Free some space.") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _known(self, key: str) -> Path:
        return self.place / "known" / f"{key}.json"


def changed(path: Path) -> int | None:
    """When a file was changed last, in ns; None where there is none."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return None
