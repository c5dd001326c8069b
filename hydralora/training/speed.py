"""How fast this machine trains: a few real steps, timed, in a folder that is thrown away."""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydralora.config import RunConfig
from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import SILENT, Progress
from hydralora.training.presets import Speed
from hydralora.training.train import train_adapter

WARM_STEPS = 3  # not counted: memory is still being laid out
COUNTED_STEPS = 24  # batches differ in length, so several are needed for a mean
MOST_SECONDS = 40.0  # of the timed steps; a large model gets fewer of them


def measure_speed(
    config: RunConfig,
    corpus_folder: Path,
    *,
    clusters_folder: Path | None = None,
    spent: float = 0.0,
    progress: Progress = SILENT,
) -> Speed:
    """Train a few steps as ``config`` says and time them.

    Args:
        spent: Seconds that a run spends before this call (starting a process, importing torch).

    Raises:
        UserError: Whatever would also stop the run itself.
        StoppedError: When asked to stop.
    """
    train = config.train.model_copy(update={"max_steps": WARM_STEPS + COUNTED_STEPS, "eval_every": 0, "save_every": 0})
    times: list[float] = []

    def on_step(step: int, values: dict[str, Any]) -> None:
        if "loss" in values:
            times.append(time.perf_counter())

    def is_enough() -> bool:
        slow = len(times) > WARM_STEPS + 1 and times[-1] - times[0] > MOST_SECONDS
        return slow or progress.should_stop()

    began, stopped = time.perf_counter(), False
    with tempfile.TemporaryDirectory() as folder:
        try:
            train_adapter(
                config.model_copy(update={"train": train}),
                corpus_folder,
                Path(folder),
                clusters_folder=clusters_folder,
                on_step=on_step,
                progress=Progress(should_stop=is_enough),
            )
        except StoppedError:
            if progress.should_stop():
                raise
            stopped = True  # slow, so the steps so far have to do
        ended = time.perf_counter()
    gaps = [later - earlier for earlier, later in pairwise(times)][WARM_STEPS - 1 :]
    if not gaps:
        raise TrainingError("The speed of this machine could not be measured: no step was finished.")
    # The mean, not the median: long batches come too. A stopped training has measured no held-out loss.
    evaluation = 0.0 if stopped else ended - times[-1]
    batch = config.train.batch_size * config.train.accumulation
    return Speed(spent + times[0] - began, statistics.fmean(gaps), evaluation, batch)
