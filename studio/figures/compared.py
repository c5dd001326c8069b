"""Scores of compared runs as figures: intervals of exact match, cost against quality, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from studio.figures.base import MARGIN, Figure, layout_of, shortened
from studio.figures.palette import MUTED, group_colour, group_dash, group_shape

MOST_RUNS = 40  # drawn one by one
MOST_LINES = 200  # of parallel coordinates
SCORE = ("exact match", "held out", "interval")
LETTERS = 26  # of a name beside a figure


@dataclass(frozen=True)
class Scored:
    """A run, or a group of runs: its name, the place of its group, its share of right answers, and the interval."""

    name: str
    index: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Priced:
    """What a run cost and how good it is; ``cost`` in the unit of the axis."""

    name: str
    index: int
    cost: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates: numbers, or words that are placed in their order."""

    name: str
    values: Sequence[Any]


def intervals(found: Sequence[Scored], questions: int, what: str) -> Figure:
    """Shares of right answers with their 95 % intervals, one below the other.

    Args:
        what: What a row is: ``run`` or ``group``.
    """
    shown = found[:MOST_RUNS]
    drawing = go.Figure(
        layout=layout_of(
            max(160, 30 * len(shown) + 70),
            xaxis={"title": "exact match", "tickformat": ".0%", "showgrid": True},
            yaxis={"showgrid": False, "nticks": 0, "automargin": True, "autorange": "reversed", "tickmode": "array"},
            margin={**MARGIN, "r": 64},
        )
    )
    places = list(range(len(shown)))
    for index in dict.fromkeys(one.index for one in shown):
        mine = [(place, one) for place, one in zip(places, shown, strict=True) if one.index == index]
        drawing.add_scatter(
            x=[one.share for _, one in mine],
            y=[place for place, _ in mine],
            mode="markers",
            name=escape(mine[0][1].name),
            showlegend=False,
            marker={"color": group_colour(index), "symbol": group_shape(index), "size": 11},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [one.high - one.share for _, one in mine],
                "arrayminus": [one.share - one.low for _, one in mine],
                "color": group_colour(index),
                "thickness": 2,
                "width": 0,
            },
            customdata=[escape(one.name) for _, one in mine],
            hovertemplate="%{customdata}<br>%{x:.1%}<extra></extra>",
        )
    for place, one in zip(places, shown, strict=True):
        drawing.add_annotation(
            **{"x": 1, "xref": "paper", "xanchor": "left", "xshift": 8, "y": place, "showarrow": False},
            text=f"<b>{100 * one.share:.0f} %</b>",
        )
    names = [escape(shortened(one.name, LETTERS)) for one in shown]
    drawing.update_yaxes(tickvals=places, ticktext=names)
    aid = f"Exact match on {questions:,} unseen questions, with the 95 % interval of each {what} (Wilson)."
    if len(found) > MOST_RUNS:
        aid += f" Of {len(found):,} the best {MOST_RUNS} are drawn; the file has all."
    rows = [[one.name, round(one.share, 4), round(one.low, 4), round(one.high, 4)] for one in found]
    shares = [round(100 * one.share) for one in found]
    title = f"{len(found):,} {what}s lie between {min(shares)} and {max(shares)} %"
    if len(found) == 1:
        title = f"Right on {shares[0]} %"
    return Figure(drawing, aid, "exact-match", [what, "exact match", "low", "high"], rows, title, terms=SCORE)


def cost_against_quality(found: Sequence[Priced], cost: str) -> Figure:
    """Exact match over cost, a mark for each run; the dotted line goes through those that no cheaper one beats."""
    drawing = go.Figure(
        layout=layout_of(
            380,
            xaxis={"title": cost, "rangemode": "tozero"},
            yaxis={"title": "exact match", "tickformat": ".0%"},
        )
    )
    for index in dict.fromkeys(one.index for one in found):
        mine = [one for one in found if one.index == index]
        drawing.add_scatter(
            x=[one.cost for one in mine],
            y=[one.share for one in mine],
            mode="markers",
            showlegend=False,
            marker={"color": group_colour(index), "symbol": group_shape(index), "size": 11},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [one.high - one.share for one in mine],
                "arrayminus": [one.share - one.low for one in mine],
                "color": group_colour(index),
                "thickness": 1,
                "width": 0,
            },
            customdata=[escape(one.name) for one in mine],
            hovertemplate="%{customdata}<br>%{x:,.4g}, %{y:.1%}<extra></extra>",
        )
    front = cheapest(found)
    drawing.add_scatter(
        x=[one.cost for one in front],
        y=[one.share for one in front],
        mode="lines",
        showlegend=False,
        hoverinfo="skip",
        line={"color": MUTED, "dash": "dot", "width": 1},
    )
    best = max(found, key=lambda one: one.share)
    rivals = [one for one in front if one.high >= best.low]  # whose interval meets the best one's
    cheap = min(rivals, key=lambda one: one.cost)
    title = f"{shortened(best.name, 30)} is right most often, none cheaper comes near"
    if cheap.cost < best.cost:
        title = (
            f"{shortened(cheap.name, 36)} costs {100 * cheap.cost / best.cost:.0f} % of the best, within its interval"
        )
    aid = (
        f"Each mark is a run: exact match with its 95 % interval over {cost}. The dotted line joins the runs that no "
        "cheaper one beats."
    )
    rows = [[one.name, one.cost, round(one.share, 4), round(one.low, 4), round(one.high, 4)] for one in found]
    return Figure(
        drawing, aid, "cost-and-quality", ["run", cost, "exact match", "low", "high"], rows, title, terms=SCORE
    )


def cheapest(found: Sequence[Priced]) -> list[Priced]:
    """Those that none of less or equal cost beats, by cost."""
    front: list[Priced] = []
    for one in sorted(found, key=lambda one: (one.cost, -one.share)):
        if not front or one.share > front[-1].share:
            front.append(one)
    return front


def parallel(names: Sequence[str], indices: Sequence[int], axes: Sequence[Axis]) -> Figure:
    """Every run as a line over settings and scores; each axis runs from its lowest value to its highest."""
    drawing = go.Figure(
        layout=layout_of(
            380,
            xaxis={"tickmode": "array", "showline": False, "nticks": 0, "automargin": True},
            yaxis={"visible": False, "range": [-0.12, 1.12], "showgrid": False},
            margin={**MARGIN, "l": 40, "r": 40},
        )
    )
    places = [_places(axis) for axis in axes]
    across = list(range(len(axes)))
    for index in dict.fromkeys(indices[:MOST_LINES]):
        mine = [run for run in range(min(len(names), MOST_LINES)) if indices[run] == index]
        x: list[int | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for run in mine:
            x += [*across, None]
            y += [*(column[run] for column, _ in places), None]
            text += [f"{escape(names[run])}<br>{escape(f'{axis.name}: {_told(axis.values[run])}')}" for axis in axes]
            text.append("")
        drawing.add_scatter(
            x=x,
            y=y,
            text=text,
            mode="lines+markers",
            showlegend=False,
            hovertemplate="%{text}<extra></extra>",
            line={"color": group_colour(index), "dash": group_dash(index), "width": 1.6},
            marker={"symbol": group_shape(index), "size": 7},
        )
    # Set at once: plotly copies all that is there with each that is added.
    drawing.update_layout(
        shapes=[_upright(place) for place in across],
        annotations=[_tick(at, *tick) for at, (_, ticks) in zip(across, places, strict=True) for tick in ticks],
    )
    drawing.update_xaxes(tickvals=across, ticktext=[escape(axis.name) for axis in axes], range=[-0.15, len(axes) - 0.6])
    aid = "Each line is a run, each axis a setting or a score, from its lowest value at the foot to its highest."
    if len(names) > MOST_LINES:
        aid += f" Of {len(names):,} runs the first {MOST_LINES} are drawn; the file has all."
    rows = [[name, *(axis.values[run] for axis in axes)] for run, name in enumerate(names)]
    head, title = ["run", *(axis.name for axis in axes)], f"{len(names):,} runs over {len(axes)} settings and scores"
    return Figure(drawing, aid, "parallel-coordinates", head, rows, title)


def _upright(place: int) -> dict[str, Any]:
    """The line of an axis."""
    line = {"color": "var(--edge)", "width": 1}
    return {
        "type": "line",
        "layer": "below",
        "line": line,
        "yref": "y domain",
        "x0": place,
        "x1": place,
        "y0": 0,
        "y1": 1,
    }


def _tick(place: int, height: float, words: str) -> dict[str, Any]:
    """What is written beside a height of an axis."""
    text = {"text": escape(shortened(words, 16)), "showarrow": False, "bgcolor": "var(--sheet)", "borderpad": 1}
    return {"x": place, "y": height, "xanchor": "left", "xshift": 7, **text}


def _told(value: Any) -> str:
    return "–" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _places(axis: Axis) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Where each value lies on an axis, 0 to 1, and what is written beside it."""
    known = [value for value in axis.values if value is not None]
    if known and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        low, high = min(known), max(known)
        span = high - low or 1.0
        column: list[float | None] = [None if value is None else float((value - low) / span) for value in axis.values]
        return column, [(0.0, _told(low))] + ([(1.0, _told(high))] if high != low else [])
    words = list(dict.fromkeys(map(_told, axis.values)))
    heights = np.linspace(0, 1, len(words)).tolist() if len(words) > 1 else [0.5]
    at = dict(zip(words, heights, strict=True))
    return [at[_told(value)] for value in axis.values], [(height, word) for word, height in at.items()]
