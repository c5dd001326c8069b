"""The artefacts of one home: what it sends to the store, and what it fetches from there.

The home is a cache of the store. A folder is fetched when it is opened and the store has another one; what this home
has changed and not sent yet is never overwritten. Without a store every method returns at once.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from hydralora.files import remove, written_aside
from hydralora.plain import one_line
from jobs.artefacts.address import StoreError
from jobs.artefacts.folders import has_parts, link, names, scan, seen_in, still, stored_hash
from jobs.artefacts.notes import DROP, SEND, Notes, changed
from jobs.artefacts.remote import Manifest, Remote

log = logging.getLogger(__name__)
FRESH_SECONDS = 2.0  # for which a folder that was looked after is not asked for again
DOWN_SECONDS = 10.0  # for which a store that did not answer is not asked again, where a folder is here


class Artefacts:
    """Sends and fetches folders below ``root``.

    Args:
        url: Address of the store; empty for none.
    """

    def __init__(self, root: Path, url: str = "") -> None:
        self.root, self.url, self._notes = root, url, Notes(root, url)
        self._looked: dict[str, float] = {}  # by key: when it was last asked for, in seconds of ``time.monotonic``
        self._down_until = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether there is a store."""
        return bool(self.url)

    @cached_property
    def remote(self) -> Remote:
        """The store itself."""
        return Remote(self.url)

    # Sending

    def publish(self, folder: Path) -> None:
        """Send a folder now; where the store cannot be used it waits to be sent."""
        if not self.is_on:
            return
        self.pend(folder)
        try:
            self.send(folder)
        except StoreError as error:
            log.warning("%s", one_line(str(error)))

    def pend(self, folder: Path) -> None:
        """Have a folder sent soon, by whoever sends what waits here (``jobs.sending``)."""
        if self.is_on:
            self._notes.add(SEND, self._key(folder))

    def send(self, folder: Path, *, again: bool = False) -> None:
        """Send a folder and commit it; it does not wait any more then.

        Args:
            again: Send also what seems to be there.

        Raises:
            StoreError: When the store cannot be used.
        """
        if not self.is_on:
            return
        key = self._key(folder)
        note = self._notes.path(SEND, key)
        with self._notes.locked(key):
            noted = changed(note)
            if folder.is_dir():
                with suppress(FileNotFoundError):  # of a checkpoint that another one has taken the place of
                    with still(key, folder, self._notes.place / "copies" / key) as source:
                        self._send(key, source, again=again)
            if changed(note) == noted:  # else it has changed again
                note.unlink(missing_ok=True)

    def _send(self, key: str, folder: Path, *, again: bool) -> None:
        known = self._notes.known(key)
        manifest, seen = scan(key, folder, {} if again else known.get("files", {}))
        theirs = self.remote.manifest(key) if not again else None
        if theirs is not None and theirs.mark == manifest.mark:
            return self._notes.remember(key, manifest.mark, seen)
        if theirs is not None and theirs.mark != known.get("mark"):  # another machine has added to it
            others = {name: file for name, file in theirs.files.items() if name not in known.get("files", {})}
            whole = Manifest({**others, **manifest.files})
        else:
            whole = manifest
        if again:
            self.remote.forget_data(key)
        self.remote.send(key, folder, manifest, seen)
        self.remote.commit(key, whole)
        self._notes.remember(key, manifest.mark, seen)  # of ours: what others have added is fetched by the next look

    def send_early(self, folder: Path, source: Path) -> None:
        """Send what shall stand at ``folder`` and still lies elsewhere; it is committed by the next ``send``.

        Raises:
            StoreError: When the store cannot be used.
        """
        if self.is_on and source.is_dir():
            key = self._key(folder)
            self.remote.send(key, source, *scan(key, source, {}))

    # Fetching

    def fetch(self, folder: Path) -> None:
        """Have a folder here as the store has it; nothing where the store has none.

        Raises:
            StoreError: When it is not here, and the store cannot be used or what it has is damaged.
        """
        if not self.is_on:
            return
        key, now = self._key(folder), time.monotonic()
        if now - self._looked.get(key, -math.inf) < FRESH_SECONDS or (now < self._down_until and folder.is_dir()):
            return
        try:
            with self._notes.locked(key):
                self._bring(key, folder)
        except StoreError as error:
            self._down_until = time.monotonic() + DOWN_SECONDS
            if not folder.is_dir():
                raise
            log.warning("%s What is here is used.", one_line(str(error)))
        self._looked[key] = time.monotonic()

    def need(self, folder: Path) -> Path:
        """The same for what cannot be done without.

        Raises:
            StoreError: When it is neither here nor there: whoever made it may not have sent it yet.
        """
        self.fetch(folder)
        if self.is_on and not folder.exists():
            raise StoreError(
                f"{self._key(folder)} is neither in this home nor in the artefact store {self.url} yet. The machine "
                "that made it sends it as soon as it can: `python -m studio artefacts status` there says what waits."
            )
        return folder

    def fetch_below(self, folder: Path) -> None:
        """Fetch all artefacts right below a place.

        Raises:
            StoreError: When one is not here and cannot be fetched.
        """
        for name in self.below(folder):
            self.fetch(folder / name)

    def below(self, folder: Path) -> list[str]:
        """Names of the artefacts that the store has right below a place; none while it cannot be asked."""
        if not self.is_on or time.monotonic() < self._down_until:
            return []
        try:
            return self.remote.below(self._key(folder))
        except StoreError as error:
            self._down_until = time.monotonic() + DOWN_SECONDS
            log.warning("%s", one_line(str(error)))
            return []

    def _bring(self, key: str, folder: Path) -> None:
        if self._notes.waits(key):
            return  # ours is newer
        found, known = self.remote.manifest(key), self._notes.known(key)
        if found is None or (known.get("mark") == found.mark and folder.is_dir()):
            return
        if has_parts(key) and folder.is_dir():
            self._fill(key, folder, folder, found, known)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(folder) as aside:
                aside.mkdir(mode=0o700)
                self._fill(key, folder, aside, found, known)
        self._notes.remember(key, found.mark, seen_in(folder, found))

    def _fill(self, key: str, folder: Path, aside: Path, found: Manifest, known: dict[str, Any]) -> None:
        """Put an artefact's files into ``aside``: those that are here already, and the others from the store."""
        before = known.get("files", {})
        for name, file in found.files.items():
            here, place = folder / name, aside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if here.is_file() and stored_hash(here, before.get(name)) == file.sha256:
                if here != place:
                    link(here, place)
                continue
            with written_aside(place) as new:
                self.remote.get(key, name, file, new)
        for name in names(key, folder) if folder.is_dir() and folder != aside else ():
            if name not in found.files and name not in before:  # written here since, by whoever is about to send it
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                link(folder / name, aside / name)

    # Deleting, and what waits

    def forget(self, folder: Path) -> None:
        """Delete a folder here and, as soon as that can be done, in the store."""
        remove(folder)
        self.pend_drop(folder)

    def pend_drop(self, folder: Path) -> None:
        """Have a folder deleted in the store soon, and keep it here."""
        if self.is_on:
            key = self._key(folder)
            self._notes.add(DROP, key)
            self._notes.path(SEND, key).unlink(missing_ok=True)
            self._looked.pop(key, None)

    def drop(self, folder: Path) -> None:
        """Delete a folder in the store, and what is known of it here.

        Raises:
            StoreError: When the store cannot be used.
        """
        key = self._key(folder)
        with self._notes.locked(key):
            self.remote.remove(key)
            self._notes.forget(key)

    def waiting(self) -> list[tuple[str, Path]]:
        """What waits for the store, the oldest first: ``SEND`` or ``DROP``, and the folder."""
        return [(what, self.root / key) for what, key in self._notes.waiting()] if self.is_on else []

    def settle(self) -> int:
        """Send and delete what waits, one after the other; how many are done.

        Raises:
            StoreError: When the store cannot be used.
        """
        waiting = self.waiting()
        for what, folder in waiting:
            self.drop(folder) if what == DROP else self.send(folder)
        return len(waiting)

    def _key(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()
