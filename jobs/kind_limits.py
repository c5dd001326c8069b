"""What a job of each kind may take: of memory, processor, time and written files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
HOUR = 3600
DAY, MONTH = 24 * HOUR, 30 * 24 * HOUR


@dataclass(frozen=True)
class Limits:
    """Bytes of memory, seconds of processor and of wall clock, bytes of one written file; None is no limit."""

    memory: int | None = None
    cpu: int | None = None
    wall: int | None = None
    file: int | None = None


def for_models(wall: int | None) -> Callable[[int], Limits]:
    """For kinds that load models, whose need is not known: all memory of the machine, and so many seconds.

    A process that asks for more ends with a sentence, before the system begins to end others. With a GPU there is no
    limit of memory: its driver maps far more than it uses.
    """
    return lambda memory: Limits(None if has_gpu() else memory, wall=wall)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is in this machine, by its device or its driver's program; nothing heavy is loaded."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


only_memory = for_models(wall=None)  # for what works until nobody asks any more


def limits_of_ingest(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR, wall=2 * HOUR, file=16 * GIB)


def limits_of_preview(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR // 6, wall=HOUR // 3, file=GIB)


def limits_of_fetch(memory: int) -> Limits:
    return Limits(max(2 * GIB, min(memory // 4, 8 * GIB)), cpu=HOUR, wall=12 * HOUR, file=2 * GIB)


def limits_of_push(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory // 2), cpu=2 * HOUR, wall=DAY)


def limits_of_import(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory // 2), cpu=HOUR, wall=2 * HOUR, file=20 * GIB)


def limits_of_cluster(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory * 3 // 4), wall=6 * HOUR, file=16 * GIB)


def limits_of_look(memory: int) -> Limits:
    return Limits(max(4 * GIB, memory * 3 // 4), wall=6 * HOUR, file=16 * GIB)
