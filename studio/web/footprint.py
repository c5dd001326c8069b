"""What keeps the memory of the web process small."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa

FORGONE = "pandas"
M_ARENA_MAX = -8  # of glibc's `mallopt`
ARENAS = 2  # all threads take their memory from these; else each has one of its own, and gives it back late


class _Forgo(MetaPathFinder):
    """Makes an import fail as where the package is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Nothing, or that it is not there."""
        if name == FORGONE:
            raise ModuleNotFoundError(f"{name} is left out of the web process", name=name)


def keep_small() -> None:
    """For this process alone: no pandas, few arenas, and Arrow takes its memory where everything else does.

    pyarrow imports pandas at its first array, to see whether it was given a series (35 MB); nobody does that here.
    """
    sys.meta_path.insert(0, _Forgo())
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such thing
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
