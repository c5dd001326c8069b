"""What drawing a first figure loads, loaded before somebody waits: plotly checks each kind of thing by a class."""

from __future__ import annotations

import numpy as np

from studio.figures.compared import Axis, parallel
from studio.figures.laid_over import Bundle, laid_over
from studio.figures.look import Look


def warm_up() -> None:
    """Draw two small figures that nobody sees."""
    line = np.array([1, 2]), np.array([2.0, 1.0])
    laid_over(
        [Bundle(name, index, [(name, line)] * 2) for index, name in enumerate("ab")], "loss", "nats", Look()
    ).to_json()
    parallel(["a", "b"], [0, 1], [Axis("rank", [1, 2]), Axis("method", ["x", "y"])]).to_json()
