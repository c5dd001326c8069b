"""Curves of many runs laid over each other: means of groups with a band, and single runs on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from studio.figures.base import Figure, hold_range, layout_of, name_at_ends, shortened
from studio.figures.look import TINY, Line, Look, on_axis, scaled, smoothed
from studio.figures.palette import group_colour, group_dash

GRID = 200  # steps at which means are taken
MOST_SINGLE = 100  # runs drawn by themselves
MOST_NAMED = 8  # groups with their name at the end of their line
BAND = 0.16  # opacity


@dataclass(frozen=True)
class Bundle:
    """The curves of one group: its name and place among the groups, and a line for each of its runs by name."""

    name: str
    index: int
    lines: Sequence[tuple[str, Line]]


@dataclass(frozen=True)
class Mean:
    """Mean and standard deviation of a group, ``(steps,)``; NaN in ``sd`` where one run is left."""

    steps: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    runs: np.ndarray


def laid_over(bundles: Sequence[Bundle], quantity: str, unit: str, look: Look, terms: Sequence[str] = ()) -> Figure:
    """Curves of groups over steps, lower ones first in the title.

    Args:
        quantity: What is drawn, such as ``held-out loss``.
        unit: Of it, on the axis.
        terms: Those of ``studio.terms`` that a reader may not know.
    """
    drawing = go.Figure(layout=layout_of(300, xaxis={"title": "step"}, yaxis={"title": unit}))
    means = {bundle.index: mean_of([smoothed(line, look.smooth) for _, line in bundle.lines]) for bundle in bundles}
    for bundle in bundles:
        _draw_band(drawing, means[bundle.index], bundle.index, look)
    if look.single:
        _draw_single(drawing, bundles, look)
    for bundle in bundles:
        _draw_mean(drawing, bundle, means[bundle.index])
    _name(drawing, bundles, means, look)
    shown = {bundle.name: means[bundle.index] for bundle in bundles}
    aid = _aid(bundles, quantity, look)
    head, rows = _table(shown)
    name, title = f"{quantity.replace(' ', '-')}-compared", _title(bundles, means, quantity)
    return Figure(drawing, aid, name, head, rows, title, terms=terms)


def mean_of(lines: Sequence[Line]) -> Mean:
    """Mean and spread of lines at common steps, each interpolated between its own; while half of them go on."""
    grid = np.unique(np.concatenate([steps for steps, _ in lines]))
    if len(grid) > GRID:
        grid = np.unique(np.linspace(grid[0], grid[-1], GRID).round())
    values = np.stack([np.interp(grid, steps, line, left=np.nan, right=np.nan) for steps, line in lines])
    runs = np.isfinite(values).sum(0)
    kept = runs >= max(1, len(lines) / 2)
    grid, values, runs = grid[kept], values[:, kept], runs[kept]
    mean = np.nanmean(values, axis=0)
    off = np.where(np.isfinite(values), values - mean, 0.0)
    sd = np.sqrt((off**2).sum(0) / np.maximum(1, runs - 1))
    return Mean(grid, mean, np.where(runs > 1, sd, np.nan), runs)


def _draw_band(drawing: go.Figure, mean: Mean, index: int, look: Look) -> None:
    known = np.isfinite(mean.sd)
    if not known.any():
        return
    steps, low, high = mean.steps[known], (mean.mean - mean.sd)[known], (mean.mean + mean.sd)[known]
    low = np.maximum(low, TINY) if look.log else low
    drawing.add_scatter(
        x=np.concatenate([steps, steps[::-1]]).tolist(),
        y=np.concatenate([high, low[::-1]]).round(6).tolist(),
        fill="toself",
        fillcolor=group_colour(index),
        opacity=BAND,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _draw_single(drawing: go.Figure, bundles: Sequence[Bundle], look: Look) -> None:
    room = MOST_SINGLE
    for bundle in bundles:
        for name, line in bundle.lines[: max(0, room)]:
            steps, values = smoothed(line, look.smooth)
            drawing.add_scatter(
                x=steps.tolist(),
                y=values.round(6).tolist(),
                mode="lines",
                name=escape(name),
                line={"color": group_colour(bundle.index), "width": 1, "dash": group_dash(bundle.index)},
                opacity=0.55,
                showlegend=False,
            )
        room -= len(bundle.lines)


def _draw_mean(drawing: go.Figure, bundle: Bundle, mean: Mean) -> None:
    drawing.add_scatter(
        x=mean.steps.tolist(),
        y=mean.mean.round(6).tolist(),
        mode="lines" if len(mean.steps) > 1 else "markers",
        name=escape(bundle.name),
        line={"color": group_colour(bundle.index), "width": 2.2, "dash": group_dash(bundle.index)},
        showlegend=False,
    )


def _name(drawing: go.Figure, bundles: Sequence[Bundle], means: dict[int, Mean], look: Look) -> None:
    """Names at the ends of lines, and a range that holds all of them."""
    lows = [np.nanmin(mean.mean - np.nan_to_num(mean.sd)) for mean in means.values()]
    highs = [np.nanmax(mean.mean + np.nan_to_num(mean.sd)) for mean in means.values()]
    low, high = scaled(drawing, float(min(lows)), float(max(highs)), log=look.log)
    named = bundles[:MOST_NAMED]
    ends = [_end(bundle, means[bundle.index], look) for bundle in named]
    name_at_ends(drawing, ends, low, high)
    first, last = min(mean.steps[0] for mean in means.values()), max(mean.steps[-1] for mean in means.values())
    hold_range(drawing, (float(first), float(last)), (low, high))


def _end(bundle: Bundle, mean: Mean, look: Look) -> tuple[float, float, str, str]:
    last = float(mean.mean[-1])
    count = f", {len(bundle.lines)} runs" if len(bundle.lines) > 1 else ""
    return (
        float(mean.steps[-1]),
        on_axis(last, log=look.log),
        shortened(bundle.name, 22) + count,
        group_colour(bundle.index),
    )


def _title(bundles: Sequence[Bundle], means: dict[int, Mean], quantity: str) -> str:
    ends = sorted(((float(means[b.index].mean[-1]), b) for b in bundles), key=lambda end: end[0])
    if len(ends) == 1:
        return f"{quantity.capitalize()} ends at {means[bundles[0].index].mean[-1]:.3f}"
    (low, best), (next_low, _) = ends[0], ends[1]
    sds = [np.nan_to_num(means[bundle.index].sd[-1]) for _, bundle in ends[:2]]
    if next_low - low <= max(sds):
        return f"{quantity.capitalize()}: the ends lie within one standard deviation"
    lonely = ", one run each" if all(len(bundle.lines) == 1 for _, bundle in ends[:2]) else ""
    return f"{shortened(best.name, 32)} ends lowest, at {low:.3f}{lonely}"


def _aid(bundles: Sequence[Bundle], quantity: str, look: Look) -> str:
    several = any(len(bundle.lines) > 1 for bundle in bundles)
    words = f"{quantity.capitalize()} by step. "
    words += "Lines: mean over the runs of a group; band: one standard deviation over them. " if several else ""
    words += look.words
    count = sum(len(bundle.lines) for bundle in bundles)
    if look.single and count > MOST_SINGLE:
        words += f"Of {count:,} single runs the first {MOST_SINGLE} are drawn. "
    return words.strip()


def _table(means: dict[str, Mean]) -> tuple[list[str], list[list[Any]]]:
    grid = np.unique(np.concatenate([mean.steps for mean in means.values()]))
    head, columns = ["step"], []
    for name, mean in means.items():
        places = {float(step): place for place, step in enumerate(mean.steps)}
        head += [name, f"{name}, sd", f"{name}, runs"]
        columns.append((mean, places))
    rows: list[list[Any]] = []
    for step in grid:
        row: list[Any] = [int(step)]
        for mean, places in columns:
            place = places.get(float(step))
            if place is None:
                row += [None, None, None]
            else:
                sd = mean.sd[place]
                row += [round(float(mean.mean[place]), 6), None if np.isnan(sd) else round(float(sd), 6)]
                row.append(int(mean.runs[place]))
        rows.append(row)
    return head, rows
