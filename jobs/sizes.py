"""The settings by which a run on a base fits this machine."""

from __future__ import annotations

from typing import Any

from hydralora.config import TrainConfig, parse_config
from hydralora.results.bases import BaseFacts
from hydralora.training.memory import training_memory
from jobs.machine import Machine

MOST_BY_ITSELF = 4 * 2**30  # bytes of a run without a GPU whose settings nobody has chosen
TIGHT = 0.8  # of what is free: the rest of the machine wants some too


def sizes_of(facts: BaseFacts, machine: Machine) -> dict[str, Any]:
    """The settings of a run that a base asks for: the type that it is stored in, or bfloat16 on a GPU, and a step of
    the usual number of examples, read in so many parts that it takes no more memory than a run may take by itself."""
    dtype = "bfloat16" if machine.gpus or facts.stored in ("BF16", "F16") else "float32"
    batch, parts = TrainConfig().batch_size, 1
    most = TIGHT * machine.whole if machine.gpus else min(MOST_BY_ITSELF, TIGHT * machine.whole)

    def needed() -> float:
        train = {"dtype": dtype, "batch_size": batch, "accumulation": parts}
        return training_memory(facts, parse_config({"train": train})).total

    while batch > 1 and needed() > most:
        batch, parts = batch // 2, parts * 2
    return {"dtype": dtype, "batch_size": batch, "accumulation": parts}
