"""What this machine has free now: memory, cores, and GPUs. Nothing heavy is loaded to find out."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import psutil

from jobs.kinds import has_gpu

MIB = 2**20
SECONDS = 5.0  # for the driver's own program
ASK = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, and its memory in bytes."""

    name: str
    total: int
    free: int


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
    """This machine now."""
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return Machine(memory.total, memory.available, cores, read_gpus(_ask_driver() if has_gpu() else ""))


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
    """GPUs from lines of ``name, MiB in all, MiB free``; lines of another form are none."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            found.append(Gpu(parts[0], int(parts[1]) * MIB, int(parts[2]) * MIB))
    return tuple(found)
