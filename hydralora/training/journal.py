"""What a run keeps over all its attempts: a file in every checkpoint, under the seal of that checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydralora.bases.fingerprint import Fingerprint
from hydralora.config import RunConfig
from hydralora.errors import TrainingError
from hydralora.files import step_of
from hydralora.methods import METHODS
from hydralora.plain import shown
from hydralora.results import RunJournal

# Settings that change no weight; a step may be read in other parts, as after memory ran out.
HARMLESS = frozenset({"report_to", "save_every", "keep_checkpoints", "gate_every", "on_out_of_memory", "batch_asked"})
PARTS = frozenset({"batch_size", "accumulation"})


class Journal:
    """A run from its first step on, whichever attempt does them; the clock starts with ``start``.

    Args:
        config: As the run is trained, its length and steps fitted to base and corpus.
        mark: The fingerprint of the base.
        checkpoint: Where the run goes on; None where it begins.

    Raises:
        TrainingError: When the checkpoint was written with another base or other settings.
    """

    def __init__(self, config: RunConfig, mark: Fingerprint, checkpoint: Path | None) -> None:
        self._began, self.timed_from = 0.0, 0
        self._kept = RunJournal(config=config, base_fingerprint=mark.now)
        if checkpoint is None:
            return
        if not (checkpoint / RunJournal.FILE).exists():  # of an earlier version
            self.timed_from = step_of(checkpoint)
            return
        before = RunJournal.read(checkpoint)
        _refuse_other(before, config, mark)
        self._kept, self.timed_from = before, before.timed_from

    @property
    def held_out_loss_before(self) -> float | None:
        """The held-out loss before the first step of the first attempt."""
        return self._kept.held_out_loss_before

    def start(self, held_out_loss_before: float | None) -> None:
        """Begin to count seconds; ``held_out_loss_before`` is what a run that begins has measured."""
        self._began = time.perf_counter()
        if held_out_loss_before is not None:
            self._kept = self._kept.model_copy(update={"held_out_loss_before": held_out_loss_before})

    @property
    def seconds(self) -> float:
        """Seconds of training up to now: those up to the checkpoint, and those since."""
        return self._kept.seconds + time.perf_counter() - self._began

    def write(self, checkpoint: Path) -> None:
        """Keep it in a checkpoint that is about to be sealed."""
        update = {"seconds": self.seconds, "timed_from": self.timed_from}
        self._kept.model_copy(update=update).write(checkpoint)


def _refuse_other(before: RunJournal, config: RunConfig, mark: Fingerprint) -> None:
    """Refuse to go on with what would not be the same run.

    Raises:
        TrainingError: With what has changed.
    """
    if not mark.fits(before.base_fingerprint):
        raise TrainingError(
            f"The weights of the base have changed since this run began (fingerprint {before.base_fingerprint} then, "
            f"{mark.now} now). Put the base back, or start a new run."
        )
    for name, then, now in _differences(before.config, config):
        raise TrainingError(
            f"`{name}` was {shown(then)} when this run began and is {shown(now)} now. Put it back, or start a new run."
        )


def _differences(before: RunConfig, after: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """Settings that decide what is learnt and have changed, with both values."""
    if before.method != after.method:
        yield "method", before.method, after.method
    trains = before.train, after.train
    is_one_step = len({train.batch_size * train.accumulation for train in trains}) == 1
    is_one_step &= not METHODS[after.method].has_own_batch
    harmless = HARMLESS | PARTS if is_one_step else HARMLESS
    for part in ("adapter", "train"):
        one, other = before.model_dump()[part], after.model_dump()[part]
        for name in sorted({*one, *other} - harmless):
            if one.get(name) != other.get(name):
                yield name, one.get(name), other.get(name)
