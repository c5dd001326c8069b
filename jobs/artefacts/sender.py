"""What is sent beside the work: checkpoints while a training goes on, and what waits in a home, again and again."""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydralora.errors import UserError
from hydralora.plain import one_line
from jobs.artefacts.address import KEY, StoreError
from jobs.artefacts.artefacts import Artefacts
from jobs.artefacts.notes import FOLDER

if TYPE_CHECKING:
    from jobs.store.store import Store

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # between two looks at what waits
SETTING_SECONDS = 5.0  # between two looks at the setting
RETRY_SECONDS = 15.0  # after a store that could not be used
CLOSE_SECONDS = 40.0  # that a training waits at its end for its last checkpoint to be sent


class CheckpointSender:
    """Sends the newest sealed checkpoint of a run, in a thread; one that a newer one overtakes is passed over.

    Before it go the numbers of the attempt and what else the run has, so that whoever finds the checkpoint finds these.
    """

    def __init__(self, artefacts: Artefacts, run: Path, attempt: Path) -> None:
        self._artefacts, self._run, self._attempt = artefacts, run, attempt
        self._newest: Path | None = None
        self._asked, self._over = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __call__(self, checkpoint: Path) -> None:
        """Send this one next."""
        with self._asked:
            self._newest = checkpoint
            self._asked.notify()

    def close(self) -> None:
        """Wait for the last one; what was not sent in time waits in the home."""
        with self._asked:
            self._over = True
            self._asked.notify()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() and self._newest is not None:
            self._pend(self._newest)

    def _work(self) -> None:
        while True:
            with self._asked:
                while self._newest is None:
                    if self._over:
                        return
                    self._asked.wait()
                checkpoint = self._newest
            self._send(checkpoint)
            with self._asked:
                if self._newest == checkpoint:
                    self._newest = None

    def _send(self, checkpoint: Path) -> None:
        try:
            for folder in (self._attempt, self._run, checkpoint):
                self._artefacts.send(folder)
            for name in self._artefacts.below(checkpoint.parent):
                if not (checkpoint.parent / name).exists():  # it was one too many
                    self._artefacts.drop(checkpoint.parent / name)
        except StoreError as error:
            log.warning("%s", one_line(str(error)))
            self._pend(checkpoint)

    def _pend(self, checkpoint: Path) -> None:
        for folder in (self._attempt, self._run, checkpoint):
            self._artefacts.pend(folder)


@contextmanager
def sending_checkpoints(artefacts: Artefacts, run: Path, attempt: Path) -> Iterator[Any]:
    """What is called with every checkpoint that was sealed; the last one has been sent when the block ends."""
    if not artefacts.is_on:
        yield lambda checkpoint: None
        return
    sender = CheckpointSender(artefacts, run, attempt)
    try:
        yield sender
    finally:
        sender.close()


def send_what_waits(store: Store) -> int:
    """Send and delete what waits in a home, unless another process of it does; how many are done.

    Raises:
        StoreError: When the artefact store cannot be used.
    """
    artefacts = store.home.artefacts
    if not artefacts.waiting():
        return 0
    with (store.home.root / FOLDER / "sender.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        return artefacts.settle()


def keep_sending(store: Store) -> None:
    """The same for as long as this process lives; where a home has or had a store, its address is looked up now and
    then. Runs in a thread."""
    looked = time.monotonic()
    while True:
        pause = LOOK_SECONDS
        try:
            is_due = time.monotonic() - looked > SETTING_SECONDS
            if is_due and (store.home.root / FOLDER).exists():
                looked = time.monotonic()
                store.home.use_artefacts((store.settings.get(KEY) or {}).get("url", ""))
            send_what_waits(store)
        except (UserError, OSError) as error:
            log.warning("%s", one_line(str(error)))
            pause = RETRY_SECONDS
        except Exception as error:  # the database, for a moment; the thread must not end by it
            log.warning("What waits for the artefact store was not sent: %s", type(error).__name__)
            pause = RETRY_SECONDS
        time.sleep(pause)


def start_sending(store: Store) -> None:
    """Begin ``keep_sending`` in the background."""
    threading.Thread(target=keep_sending, args=(store,), daemon=True).start()


def early(artefacts: Artefacts, made: Path, final: Path) -> None:
    """Send what an attempt has made before it is in its place: what is left for later is the commit alone."""
    with suppress(StoreError):  # it is sent with the commit then
        artefacts.send_early(final, made)
