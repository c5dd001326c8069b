"""What this machine has free now: memory, cores, and GPUs. Nothing heavy is loaded to find out."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import psutil

from jobs.kind_limits import has_gpu

MIB = 2**20
LATELY = 5.0  # seconds
SECONDS = 5.0  # for the driver's own program
ASK = ("--query-gpu=uuid,name,memory.total,memory.free", "--format=csv,noheader,nounits")
ADDRESS_VARIABLE = "HYDRA_STUDIO_ADDRESS"  # by which other machines reach this one
VISIBLE = "CUDA_VISIBLE_DEVICES"  # of a process: the GPUs that it sees, by number or by the beginning of their uuid


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, its memory in bytes, and what its driver knows it by."""

    name: str
    total: int
    free: int
    uuid: str = ""


@dataclass(frozen=True)
class Machine:
    """Bytes of memory, all and what can be had now, cores, and GPUs."""

    total: int
    free: int
    cores: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def room(self) -> int:
        """Bytes that a model may take now: of the GPU with the most free memory, else of the machine."""
        return max((gpu.free for gpu in self.gpus), default=self.free)

    @property
    def whole(self) -> int:
        """Bytes that a model could take with nothing else running, where ``room`` is."""
        return max(self.gpus, key=lambda gpu: gpu.free).total if self.gpus else self.total


def look_at_machine() -> Machine:
    """This machine now; its GPUs as they were at most ``LATELY`` seconds ago, since pages ask several times a look."""
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return Machine(memory.total, memory.available, cores, _gpus_of(int(time.monotonic() / LATELY)))


@lru_cache(maxsize=1)
def _gpus_of(moment: int) -> tuple[Gpu, ...]:
    """The GPUs in one span of ``LATELY`` seconds."""
    return look_at_gpus()


def look_at_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process may use, as they are now."""
    found = read_gpus(_ask_driver()) if has_gpu() else ()
    return found if (named := os.environ.get(VISIBLE)) is None else visible(found, named)


def visible(gpus: Sequence[Gpu], named: str) -> tuple[Gpu, ...]:
    """Those that ``CUDA_VISIBLE_DEVICES`` names, in its order, up to the first name that is none of them.

    CUDA counts the fastest first and the driver's program by slot, so of unlike GPUs a number says nothing here unless
    ``CUDA_DEVICE_ORDER`` is by slot: then none is told, and the process keeps what it was given.
    """
    by_slot = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.name for gpu in gpus}) < 2
    found: list[Gpu] = []
    for name in (part.strip() for part in named.split(",")):
        by_number = gpus[int(name)] if by_slot and name.isdecimal() and int(name) < len(gpus) else None
        gpu = by_number or next((gpu for gpu in gpus if name and gpu.uuid.startswith(name)), None)
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    return tuple(found)


def choose_gpu(gpus: Sequence[Gpu], taken: Collection[str | None] = ()) -> Gpu | None:
    """The GPU with the most free memory of those that are not ``taken`` (by uuid), else of all; None of none."""
    return max([gpu for gpu in gpus if gpu.uuid not in taken] or gpus, key=lambda gpu: gpu.free, default=None)


def _ask_driver() -> str:
    """What the NVIDIA driver's program says; nothing where it is not there or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        asked = subprocess.run([program, *ASK], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs from lines of ``uuid, name, MiB in all, MiB free``; lines of another form are none."""
    found = []
    for line in text.splitlines():
        uuid, _, rest = line.partition(",")
        parts = [part.strip() for part in rest.rsplit(",", 2)]
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            found.append(Gpu(parts[0], int(parts[1]) * MIB, int(parts[2]) * MIB, uuid.strip()))
    return tuple(found)


def own_address(database: str) -> str:
    """The address of this machine for those that share its database: the one it reaches that by, unless the environment
    says another. A database in a file belongs to this machine alone."""
    if named := os.environ.get(ADDRESS_VARIABLE):
        return named
    host = urlsplit(database).hostname
    if database.startswith("sqlite") or not host:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # a datagram socket: nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
