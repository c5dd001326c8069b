"""Checkpoints are sent to the artefact store beside the training that goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydralora.plain import one_line
from jobs.artefacts.address import StoreError
from jobs.artefacts.artefacts import Artefacts

log = logging.getLogger(__name__)
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


def early(artefacts: Artefacts, made: Path, final: Path) -> None:
    """Send what an attempt has made before it is in its place: what is left for later is the commit alone."""
    with suppress(StoreError):  # it is sent with the commit then
        artefacts.send_early(final, made)
