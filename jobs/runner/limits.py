"""What a job may take of the machine: memory, time and the size of a file, by kind of job.

The shim imposes it on itself before the job's own process begins, so every process of the job has it. Memory is
limited as ``RLIMIT_DATA``, what a process has to write in, and not as address space (``RLIMIT_AS``): torch, CUDA and
Arrow map and reserve several times what they use. Limits that a system does not have are left out; macOS knows
``RLIMIT_DATA`` but does not hold large pieces of memory to it.

Each default can be changed by an environment variable of the worker, ``HYDRA_STUDIO_LIMIT_<KIND>_<LIMIT>``, for
instance ``HYDRA_STUDIO_LIMIT_INGEST_MEMORY_GIB=12``; ``none`` takes a limit away; a kind without one can be given one.
"""

from __future__ import annotations

import logging
import math
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from hydralora.errors import UserError
from jobs.kind_limits import GIB, Limits
from jobs.kinds import kind_of

log = logging.getLogger(__name__)
SPARE_BYTES = 64 * 2**20  # of memory, given to a process at its limit so that it can say so
SPARE_SECONDS = 10
OUT_OF_MEMORY = (
    "Out of memory. Halve `batch_size` (and double `accumulation` to keep the same training), shorten `max_length`, or "
    "choose a smaller base."
)
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Unit:
    """How one limit is given in a variable's name, and told in a sentence."""

    variable: str
    size: int
    words: str


UNITS = {
    "memory": Unit("MEMORY_GIB", GIB, "GiB of memory"),
    "cpu": Unit("CPU_MINUTES", 60, "minutes of processor time"),
    "wall": Unit("WALL_MINUTES", 60, "minutes"),
    "file": Unit("FILE_GIB", GIB, "GiB in one file"),
}


def limits_of(kind: str, environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits of a kind of job on this machine: the defaults, changed by what the environment says.

    Raises:
        UserError: When a variable is no number, or there is no such kind.
    """
    found = kind_of(kind).limits(machine_memory())
    given = {name: value for name in UNITS if (value := environment.get(variable(kind, name), "").strip())}
    return replace(found, **{name: _parse(kind, name, value) for name, value in given.items()})


def variable(kind: str, name: str) -> str:
    """Name of the environment variable that sets a limit."""
    return f"HYDRA_STUDIO_LIMIT_{kind.upper()}_{UNITS[name].variable}"


def _parse(kind: str, name: str, text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1e6:
        raise UserError(
            f"{variable(kind, name)} must be a number above 0 and below 1,000,000, or `none`; got {text!r}."
        )
    return max(1, int(number * UNITS[name].size))


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that we are in."""
    total = int(psutil.virtual_memory().total)
    for path in CGROUP_MEMORY:
        with suppress(OSError, ValueError):  # no container, or `max`: no limit
            total = min(total, int(path.read_text()))
    return total


def impose(limits: Limits) -> None:
    """Limit this process and all it will start; nothing of it is readable by others, and no core is dumped."""
    os.umask(0o077)
    _set("RLIMIT_CORE", 0, 0)
    if limits.memory is not None:
        _set("RLIMIT_DATA", limits.memory, limits.memory + SPARE_BYTES)
    if limits.cpu is not None:
        _set("RLIMIT_CPU", limits.cpu, limits.cpu + SPARE_SECONDS)
    if limits.file is not None:
        _set("RLIMIT_FSIZE", limits.file, limits.file)


def loosen_memory() -> None:
    """Give a process that has met its limit of memory the rest, to clean up and say so."""
    if hasattr(resource, "RLIMIT_DATA"):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _set(name: str, soft: int, hard: int) -> None:
    """Set a limit, never above one that holds already."""
    number = getattr(resource, name, None)
    if number is None:
        return
    present = resource.getrlimit(number)[1]
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    try:
        resource.setrlimit(number, (soft, hard))
    except (ValueError, OSError) as error:  # macOS refuses some values; the other limits still hold
        log.warning("%s could not be set to %s: %s", name, f"{soft:,}", error)


def sentence(kind: str, name: str, limits: Limits) -> str:
    """What to say of a job that met a limit: which, its value, and the way out."""
    unit, value = UNITS[name], getattr(limits, name)
    return (
        f"The job took more than {value / unit.size:,.4g} {unit.words}, the limit for `{kind}` "
        f"jobs, and nothing of it was kept. "
        f"Give it less at once, or set {variable(kind, name)} to more (or `none`) and start the studio's worker again."
    )


def crash_sentence(limits: Limits) -> str:
    """What to say of a library that crashed; where memory was limited, it may have been for want of it."""
    said = "A library crashed on this input. If it is a file you uploaded, it is probably damaged."
    if limits.memory is None:
        return said
    return f"{said} It may also have needed more than the {limits.memory / GIB:,.4g} GiB of memory it was given."
