"""What attempts take of a Ray cluster, by Ray's names, and whether its nodes have that."""

from __future__ import annotations

import os

from hydralora.errors import UserError
from jobs.machine import look_at_gpus
from jobs.runner.choice import Choice
from jobs.runner.limits import GIB, machine_memory

Resources = dict[str, int]  # ``CPU``, ``GPU`` and ``memory`` in bytes
WAITING: Resources = {"CPU": 0, "GPU": 0, "memory": GIB}  # of an attempt's own process, where others do its work


def needs_on(nodes: list[dict[str, float]], choice: Choice) -> Resources:
    """What an attempt is given on these nodes; where several processes train one run, each of them."""
    gpus = choice.gpus if choice.gpus is not None else int(any(node.get("GPU") for node in nodes))
    return {"CPU": choice.cpus, "GPU": gpus, "memory": int((choice.memory_gib or 0) * GIB)}


def trainings_on(nodes: list[dict[str, float]], choice: Choice) -> int:
    """How many trainings the nodes have room for, each with all of its processes."""
    return _processes_on(nodes, choice) // choice.processes


def _processes_on(nodes: list[dict[str, float]], choice: Choice) -> int:
    """How many processes the nodes hold, wherever the attempt's own is that waits for them."""
    needs = {name: need for name, need in needs_on(nodes, choice).items() if need}
    taken = WAITING if choice.processes > 1 else {}
    free = [{name: max(0.0, node.get(name, 0) - taken.get(name, 0)) for name in needs} for node in nodes]
    return sum(int(min(node[name] // need for name, need in needs.items())) for node in free)


def here() -> list[dict[str, float]]:
    """The one node of a Ray that is started on this machine."""
    return [{"CPU": os.cpu_count() or 1, "GPU": len(look_at_gpus()), "memory": machine_memory()}]


def refuse_too_small(choice: Choice, nodes: list[dict[str, float]]) -> None:
    """Refuse several processes for one run where the nodes can never hold them together, which Ray would wait for.

    Raises:
        UserError: With what there is room for.
    """
    if choice.processes == 1 or trainings_on(nodes, choice):
        return
    needs = needs_on(nodes, choice)
    each = f"{needs['CPU']:,} CPUs and {needs['GPU']:,} GPUs"
    each = f"{choice.memory_gib:g} GiB, {each}" if choice.memory_gib else each
    raise UserError(
        f"The Ray cluster has room for {_processes_on(nodes, choice):,} of the {choice.processes:,} processes that "
        f"train one run ({each} each). Lower --job-processes, --job-cpus, --job-gpus or --job-memory-gib, or add nodes."
    )
