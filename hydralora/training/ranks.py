"""Several processes that train one adapter together, each on its part of every step; `torchrun` names them by the same
variables of the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist

from hydralora.config import RunConfig, TrainConfig
from hydralora.methods import METHODS


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_lead() -> bool:
    """Whether this process writes what all have found; the others write nothing but their random state."""
    return os.environ.get("RANK", "0") == "0"


def take_place() -> None:
    """Have this process's own GPU be the one that is meant by `cuda`, and share the threads of its machine."""
    if world_size() == 1:
        return
    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, torch.get_num_threads() // together))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def share_of(train: TrainConfig, processes: int) -> tuple[int, int]:
    """Rows of one forward pass, and passes of one step, of each process: together the rows of a step of one process.

    A pass stays as large as it can be, so that what is computed over one (the balance of experts) is over the same rows
    wherever passes can be dealt out instead.
    """
    rows = train.batch_size * train.accumulation // processes  # of a step of each process
    batch = next(size for size in range(min(train.batch_size, rows), 0, -1) if rows % size == 0)
    return batch, rows // batch


def why_alone(config: RunConfig, processes: int) -> str:
    """Why a run is trained by one process though several are asked for; empty where it need not be."""
    train, method = config.train, METHODS[config.method]
    if train.batch_size * train.accumulation % processes:
        return f"a step has {train.batch_size * train.accumulation:,} rows, which {processes} processes cannot share"
    is_plain = not method.mixin or (method.mixin.endswith(".GuidedByTask") and config.adapter.task_source is None)
    if not is_plain or method.has_own_batch or config.method == "adalora":
        return f"{method.title} trains by a schedule or tasks of its own"
    if train.objective != "answers":
        return f"`objective` is {train.objective}"
    return ""


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()


def is_any(wish: bool) -> bool:
    """Whether any process says so; the same answer everywhere."""
    if world_size() == 1:
        return wish
    return sums([float(wish)])[0] > 0


def sums(values: Sequence[float]) -> list[float]:
    """Each value summed over all processes."""
    if world_size() == 1:
        return list(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    told = torch.tensor(values, dtype=torch.float32 if device == "cuda" else torch.float64, device=device)
    dist.all_reduce(told)
    found: list[float] = told.tolist()
    return found


def means_of(gates: dict[str, list[float]]) -> dict[str, list[float]]:
    """Mean routing weights by layer, averaged over the processes."""
    if world_size() == 1:
        return gates
    told = iter(sums([share for row in gates.values() for share in row]))
    return {name: [next(told) / world_size() for _ in row] for name, row in gates.items()}
