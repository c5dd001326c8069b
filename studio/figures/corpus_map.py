"""What the map of a corpus is drawn from: an address of all its points, names, colours and shapes, what is selected.

The points themselves are no part of it (five bytes each, from the address); no text of the corpus is, but the names of
clusters, which enter the page as text.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from studio.figures.palette import CLUSTER_SHAPES, CLUSTERS, PATHS, cluster_class

EMPTY = "The map appears after clustering: every row is a point, and you can draw a loop around some."


def map_value(
    src: str,
    rows: str,
    names: Sequence[str],
    sizes: np.ndarray,
    selected: np.ndarray | None,
    corners: Sequence[tuple[float, float]] = (),
    placed_by: str = "SVD",
) -> dict[str, Any]:
    """The value of a ``CorpusMap``.

    Args:
        src: Address of the points (``Places.packed``), another one whenever they change.
        rows: Address below which the text of a row is found by its position.
        names: Name of each cluster.
        sizes: Examples in each cluster, ``(clusters,)``.
        selected: Mask of what is selected, ``(examples,)``; None where everything is.
        corners: The loop that was drawn, in units of the map.
        placed_by: What has placed the points.
    """
    clusters = [
        {"name": name, "size": int(sizes[number]), "look": cluster_class(number)} for number, name in enumerate(names)
    ]
    return {
        "src": src,
        "rows": rows,
        "count": int(sizes.sum()),
        "clusters": clusters,
        "colours": [f"--c{number + 1}" for number in range(len(CLUSTERS))] + ["--other"],
        "shapes": [PATHS[shape] for shape in CLUSTER_SHAPES] + [PATHS["circle"]],
        "selected": ""
        if selected is None
        else base64.b64encode(np.packbits(selected, bitorder="little").tobytes()).decode(),
        "selects": True,  # rows, on it; False where it is there to be looked at
        "loop": [list(corner) for corner in corners],
        "aid": f"{int(sizes.sum()):,} rows, each a point; near points use similar words (TF-IDF, {placed_by}).",
    }
