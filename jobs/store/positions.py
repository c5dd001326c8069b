"""Positions of examples as they lie in the database: ascending, as compressed differences."""

from __future__ import annotations

import zlib

import numpy as np


def packed(positions: np.ndarray) -> bytes:
    """Ascending positions as bytes."""
    return zlib.compress(np.diff(positions, prepend=0).astype("<i8").tobytes())


def unpacked(data: bytes) -> np.ndarray:
    """The positions again, ascending."""
    return np.cumsum(np.frombuffer(zlib.decompress(data), "<i8"))
