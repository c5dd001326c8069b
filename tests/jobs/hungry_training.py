"""A training that asks for memory by the examples in one forward pass, for tests of what is done when there is none."""

from __future__ import annotations

from typing import Any

import torch

from jobs.kind_limits import GIB
from jobs.runner.child import Job
from jobs.tasks import train

HUNGRY_STEP = 3


def _train(job: Job) -> Any:
    """The real training, whose third step takes 1 GiB for each example besides; nothing is written into it."""
    tell, size = job.step, job.payload["config"]["train"]["batch_size"]

    def step(number: int, values: dict[str, Any]) -> None:
        tell(number, values)
        if number == HUNGRY_STEP:
            torch.empty(size * GIB, dtype=torch.uint8)

    job.step = step  # type: ignore[method-assign]
    return train(job)


TASKS = {"train": _train}
