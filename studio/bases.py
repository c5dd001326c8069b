"""What is told of a base, in the same words on the page and in commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hydralora.config import RunConfig, parse_config
from hydralora.results.bases import BaseFacts
from hydralora.training.memory import chat_memory, training_memory
from jobs.machine import Machine
from jobs.sizes import TIGHT, sizes_of

GIB = 2**30
Verdict = Literal["fits", "tight", "does not fit"]
SIGNS: dict[Verdict, str] = {"fits": "✓", "tight": "!", "does not fit": "×"}


@dataclass(frozen=True)
class Fit:
    """Bytes that something takes, whether this machine has them now, and what to change where it has not."""

    needed: float
    verdict: Verdict
    way_out: str = ""


def fit(needed: float, machine: Machine, way_out: str = "") -> Fit:
    """Whether so many bytes fit into what is free."""
    if needed <= TIGHT * machine.room:
        return Fit(needed, "fits")
    if needed <= machine.room:
        return Fit(needed, "tight", way_out)
    return Fit(needed, "does not fit", way_out)


def chat_fit(facts: BaseFacts, machine: Machine) -> Fit:
    """Whether the base can be asked here."""
    dtype = "bfloat16" if facts.stored in ("BF16", "F16") else "float32"
    return fit(chat_memory(facts, dtype).total, machine, "Take a smaller base.")


def train_fit(facts: BaseFacts, config: RunConfig, machine: Machine) -> Fit:
    """Whether a run fits here, and the change that lowers its memory most while it learns the same."""
    return fit(training_memory(facts, config).total, machine, way_out(facts, config, machine))


def new_run_fit(facts: BaseFacts, machine: Machine) -> Fit:
    """Whether a run with the settings of a new one on this base fits here."""
    return train_fit(facts, parse_config({"train": sizes_of(facts, machine)}), machine)


def way_out(facts: BaseFacts, config: RunConfig, machine: Machine) -> str:
    """The first change that makes a run fit; they are tried from the one that costs least."""
    train = config.train
    tries: list[tuple[str, dict[str, object]]] = []
    if train.dtype == "float32":
        tries.append(("Set `dtype` to bfloat16.", {"dtype": "bfloat16"}))
    batch, more = train.batch_size, train.accumulation
    while batch > 1:
        batch, more = batch // 2, more * 2
        words = f"Set `batch_size` to {batch} and `accumulation` to {more}: the same step, in smaller parts."
        tries.append((words, {"batch_size": batch, "accumulation": more}))
    tries.append(("Switch on `gradient_checkpointing`: less memory, more time.", {"gradient_checkpointing": True}))
    changed: dict[str, object] = {}
    told: list[str] = []
    for words, values in tries:
        is_batch = "batch_size" in values
        told = [one for one in told if not (is_batch and "batch_size" in one)] + [words]
        changed |= values
        tried = config.model_copy(update={"train": train.model_copy(update=changed)})
        if training_memory(facts, tried).total <= TIGHT * machine.room:
            return " ".join(told)
    return "Take a smaller base, or a machine with more memory."


def amount(count: float) -> str:
    """Bytes in GiB, with one digit."""
    return f"{count / GIB:.1f} GiB"


def parameters(count: int) -> str:
    """A number of parameters: ``135 M``, ``3.2 B``."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} B"
    return f"{count / 10**6:.0f} M" if count >= 10**7 else f"{count / 10**6:.1f} M"


def machine_words(machine: Machine) -> str:
    """What is free here."""
    cores = f"{machine.cores} CPU core{'s' * (machine.cores != 1)}"
    if not machine.gpus:
        return f"{amount(machine.free)} of {amount(machine.total)} of memory are free, {cores}, no GPU."
    told = "; ".join(f"{gpu.name}: {amount(gpu.free)} of {amount(gpu.total)} free" for gpu in machine.gpus)
    return f"{told}; {cores}."
