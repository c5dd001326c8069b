"""What the count of a term weighs in a text; known without scikit-learn, for whoever explains a row."""

from __future__ import annotations

import numpy as np

SATURATION, LENGTH_SHARE = 1.2, 0.75  # k1 and b of BM25, its usual values


def counted(counts: np.ndarray, lengths: np.ndarray | float, usual: float | None) -> np.ndarray:
    """What so many of a term weigh: ``c / (c + k1 (1 - b + b * length / usual))``, or ``1 + log(c)`` without ``usual``.

    Shapes: any, the same for counts and lengths (terms of the whole text).
    """
    if usual is None:
        return np.asarray(1 + np.log(counts))
    return np.asarray(counts / (counts + SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths / max(usual, 1e-9))))
