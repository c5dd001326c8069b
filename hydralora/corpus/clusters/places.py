"""Where the examples of a clustering lie on the map, and in which cluster: what was written beside its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hydralora.errors import CorpusError
from hydralora.files import read_columns
from hydralora.results.clusters import ASSIGNMENTS, LAYOUT

LARGEST = 65_535  # unit of the map: both axes reach from 0 to this


@dataclass(frozen=True)
class Places:
    """Cluster of every example, its place in units of the map, all ``(examples,)``, and what has placed it."""

    cluster: np.ndarray
    x: np.ndarray
    y: np.ndarray
    by: str = "SVD"

    def packed(self) -> bytes:
        """As the map reads it: all x, then all y (little-endian uint16), then all clusters (uint8, 255 for more)."""
        parts = (self.x.astype("<u2"), self.y.astype("<u2"), np.minimum(self.cluster, 255).astype(np.uint8))
        return b"".join(part.tobytes() for part in parts)


def read_places(folder: Path) -> Places:
    """Places and clusters as the clustering in ``folder`` has found them.

    Raises:
        CorpusError: When its files are gone or damaged.
    """
    try:
        table, layout = read_columns(folder / ASSIGNMENTS, "cluster", "x", "y"), folder / LAYOUT
        placed = read_columns(layout, "x", "y") if layout.exists() else table
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CorpusError(
            f"The files of clustering {folder.name} are gone or damaged. Cluster the corpus again."
        ) from error
    if len(placed) != len(table):
        raise CorpusError(f"The map of clustering {folder.name} is of other rows. Cluster the corpus again.")
    x, y = (on_map(placed[name].to_numpy()) for name in ("x", "y"))
    return Places(table["cluster"].to_numpy(), x, y, "SVD" if placed is table else "UMAP")


def on_map(values: np.ndarray) -> np.ndarray:
    """Coordinates stretched to whole numbers from 0 to ``LARGEST``; in the middle where all are equal."""
    finite = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if most <= least:
        return np.full(len(finite), LARGEST // 2)
    return np.rint((finite - least) / (most - least) * LARGEST).astype(np.int64)
