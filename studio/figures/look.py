"""How lines over steps are drawn: on a log scale, and smoothed by a running mean over a share of the steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

TINY = 1e-6  # least value on a log scale
MOST_TICKS = 6  # on a log scale
MOST_SMOOTH = 0.5  # share of the steps

Line = tuple[np.ndarray, np.ndarray]  # steps and values


@dataclass(frozen=True)
class Look:
    """What is chosen: ``smooth`` is the share of the steps that a running mean goes over, 0 to ``MOST_SMOOTH``."""

    log: bool = False
    smooth: float = 0.0
    single: bool = False

    @property
    def words(self) -> str:
        """What a reader has to know of smoothed lines; empty where they are as measured."""
        return f"Smoothed over {self.smooth:.0%} of the steps. " if self.smooth else ""


def smoothed(line: Line, share: float) -> Line:
    """A running mean, centred, over a share of the points; its ends go over what there is."""
    steps, values = line
    half = round(share * len(values) / 2)
    if half < 1:
        return line
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return steps, (sums[high] - sums[low]) / (high - low)


def on_axis(value: float, *, log: bool) -> float:
    """Where a value lies on an axis, in the units that ranges and notes of plotly are given in."""
    return float(np.log10(max(value, TINY))) if log else float(value)


def scaled(drawing: go.Figure, low: float, high: float, *, log: bool) -> tuple[float, float]:
    """The range of an axis that holds these values with some room, its scale set; in the units of ``on_axis``."""
    if log:
        ticks = _log_ticks(max(low, TINY), max(high, TINY))
        drawing.update_yaxes(type="log", tickmode="array", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    low, high = on_axis(low, log=log), on_axis(high, log=log)
    room = (high - low or abs(high) or 1.0) * 0.06
    return low - room, high + room


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade that lies in a range, or 1 alone where these are too many; near ones are spread."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits in ((1, 2, 5), (1,)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(inside) <= MOST_TICKS:
            return inside
    if len(inside) < 2:
        return [float(f"{tick:.3g}") for tick in np.geomspace(low, high, 4)]
    return inside[:: -(-len(inside) // MOST_TICKS)]
