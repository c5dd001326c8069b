"""Numbers in, figure out: plotly figures with a reading aid and the same numbers as a table.

No text of a corpus or model enters a figure; points carry ids only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hydralora.results import Clusters
from studio.figures.palette import (
    ACCENT,
    ACCENT_2,
    ACCENT_3,
    DIVERGING,
    HEAT,
    MUTED,
    expert_colour,
    expert_name,
    expert_shape,
    expert_text_colour,
    resolved,
)

CURVE_POINTS = 2_000
MARGIN = {"l": 56, "r": 16, "t": 16, "b": 44}  # px
LABEL_ROOM = 84  # px at the right, for names at the ends of lines
LABEL_GAP = 15  # px between two names
AXES: dict[str, dict[str, Any]] = {
    "xaxis": {
        "showgrid": False,
        "zeroline": False,
        "showline": True,
        "nticks": 6,
        "separatethousands": True,
        "ticks": "",
    },
    "yaxis": {
        "showgrid": True,
        "zeroline": False,
        "showline": False,
        "nticks": 5,
        "separatethousands": True,
        "ticks": "",
    },
}


@dataclass
class Figure:
    """A figure for a ``FigurePanel``: the drawing, one sentence that says how to read it, a table.

    ``title`` is what it shows, as one line over it; empty where the page says it. ``hint`` says what a click does, for
    the pages on which it does something.
    """

    figure: go.Figure
    aid: str
    name: str
    head: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    title: str = ""
    hint: str = ""

    def drawn(self) -> go.Figure:
        """The drawing by itself, in the light colours: for a place without the page's style sheet."""
        return go.Figure(resolved(self.figure.to_plotly_json()))

    def to_json(self) -> str:
        """The panel's JSON."""
        drawing = self.figure.to_json()
        rest = json.dumps(
            {
                "aid": self.aid,
                "name": self.name,
                "title": self.title,
                "hint": self.hint,
                "table": {"head": self.head, "rows": self.rows},
            },
            ensure_ascii=False,
        )
        return f'{{"figure":{drawing},{rest[1:]}'


def layout_of(height: int, **more: Any) -> dict[str, Any]:
    """A layout in the studio's style: horizontal grid only, no frame, few ticks, thousands with a comma.

    Args:
        height: In px; a figure has its height before its data.
        more: Parts of plotly's layout; axes are laid over the style.
    """
    base = {
        "height": height,
        "margin": MARGIN,
        "template": "none",
        "hovermode": "closest",
        "separators": ".,",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {**base, **more, **{name: {**style, **more.get(name, {})} for name, style in AXES.items()}}


def name_at_ends(drawing: go.Figure, ends: Sequence[tuple[float, float, str, str]], low: float, high: float) -> None:
    """Write each line's name at its end instead of a legend, moved apart where ends are near each other.

    Args:
        ends: x, y, name and colour of each line's end.
        low: Least y of the axis.
        high: Largest y of the axis.
    """
    tall = drawing.layout.height - MARGIN["t"] - MARGIN["b"]
    gap = LABEL_GAP * (high - low) / tall
    places = _apart([y for _, y, _, _ in ends], gap, low)
    right = max(x for x, _, _, _ in ends)  # a line that ends earlier would have its name over the others
    for (_, _, name, colour), place in zip(ends, places, strict=True):
        drawing.add_annotation(
            x=right,
            y=place,
            text=f"<b>{escape(name)}</b>",
            showarrow=False,
            xanchor="left",
            xshift=9,
            font={"color": colour},
        )
    drawing.update_layout(showlegend=False, margin={**MARGIN, "r": LABEL_ROOM})
    drawing.update_yaxes(range=[low, high])


def _apart(values: list[float], gap: float, low: float) -> list[float]:
    """Values in their order, moved so that any two are at least ``gap`` apart and none lies below ``low``."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    places = list(values)
    floor = low
    for i in order:
        places[i] = floor = max(values[i], floor)
        floor += gap
    return places


def short_layer(name: str) -> str:
    """``L3 gate`` for ``model.layers.3.mlp.gate_proj``."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdigit()), "")
    last = parts[-1].removesuffix("_proj")
    return f"L{number} {last}" if number else last


def _thin(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).astype(int))


def curve(steps: Sequence[int], lines: Mapping[str, Sequence[float | None]], *, y: str, name: str, aid: str) -> Figure:
    """Values over steps, each line named at its end."""
    drawing = go.Figure(layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": y}))
    palette = (ACCENT, ACCENT_2, MUTED)
    ends: list[tuple[float, float, str, str]] = []
    for index, (label, values) in enumerate(lines.items()):
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        if not known:
            continue
        known = [known[i] for i in _thin(len(known)).tolist()]
        colour = palette[index % 3]
        drawing.add_scatter(
            x=[s for s, _ in known],
            y=[v for _, v in known],
            name=label,
            mode="lines+markers" if len(known) < 60 else "lines",
            line={"color": colour, "width": 2},
            marker={"size": 6, "symbol": "circle" if index == 0 else "circle-open"},
        )
        ends.append((*known[-1], label, colour))
    if ends:
        drawn = [v for values in lines.values() for v in values if v is not None]
        room = (max(drawn) - min(drawn) or abs(max(drawn)) or 1.0) * 0.06
        name_at_ends(drawing, ends, min(drawn) - room, max(drawn) + room)
        drawing.update_layout(margin={**MARGIN, "r": LABEL_ROOM + 3 * max(0, max(map(len, lines)) - 8)})
    rows = [[s, *[values[i] for values in lines.values()]] for i, s in enumerate(steps)]
    return Figure(drawing, aid, name, ["step", *lines], rows)


def gate_curves(steps: Sequence[int], means: Sequence[Sequence[float]], layer: str) -> Figure:
    """Mean routing weight of every expert over steps, each line named at its end."""
    array = np.array(means)
    drawing = go.Figure(
        layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": "mean routing weight", "tickformat": ".0%"})
    )
    for expert in range(array.shape[1]):
        drawing.add_scatter(
            x=list(steps),
            y=array[:, expert].round(4).tolist(),
            name=expert_name(expert),
            mode="lines+markers" if len(steps) < 60 else "lines",
            line={"color": expert_colour(expert), "width": 2},
            marker={"symbol": expert_shape(expert), "size": 6},
        )
    drawing.add_hline(y=1 / array.shape[1], line={"dash": "dot", "color": MUTED, "width": 1})
    ends = [
        (steps[-1], float(share), f"{expert_name(e)} {share:.0%}", expert_text_colour(e))
        for e, share in enumerate(array[-1])
    ]
    name_at_ends(drawing, ends, 0.0, min(1.0, 1.15 * float(array.max())))
    aid = (
        f"Share of each expert, {layer}. The dotted line is an equal share; lines that leave it "
        f"show a router that chooses."
    )
    names = [expert_name(e) for e in range(array.shape[1])]
    rows = [[s, *map(float, row.round(4))] for s, row in zip(steps, array, strict=True)]
    return Figure(drawing, aid, "gates-over-steps", ["step", *names], rows)


def heatmap(
    values: Sequence[Sequence[float]],
    x: Sequence[str],
    y: Sequence[str],
    *,
    aid: str,
    name: str,
    low: float = 0.0,
    high: float = 1.0,
    middle: float | None = None,
    ids: Any = None,
    label: str = "gate",
    hint: str = "",
) -> Figure:
    """A matrix of numbers; ``middle`` makes the colours diverge around it. Names are drawn as they are written.

    NaN is a cell without a number and stays empty.
    """
    array = np.array(values, dtype=float)
    scale: dict[str, Any] = {"colorscale": HEAT, "zmin": low, "zmax": high}
    if middle is not None:
        reach = max(float(np.nanmax(np.abs(array - middle), initial=0.0)), 1e-6)
        scale = {"colorscale": DIVERGING, "zmin": middle - reach, "zmax": middle + reach}
    row = 30 if len(y) <= 24 else max(7, 720 // len(y))
    drawing = go.Figure(
        layout=layout_of(
            max(170, row * len(y) + (110 if len(x) > 8 else 70)),
            xaxis={"tickangle": -45 if len(x) > 8 else 0, "automargin": True, "nticks": 0, "showline": False},
            yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, "nticks": 0},
        )
    )
    shown = [[None if np.isnan(value) else float(value) for value in row] for row in array.round(4)]
    drawing.add_heatmap(
        z=shown,
        x=[escape(name_) for name_ in x],
        y=[escape(name_) for name_ in y],
        customdata=ids,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": label}, "thickness": 12, "outlinewidth": 0, "nticks": 5},
        hovertemplate="%{y}, %{x}<br>" + label + " %{z:.3f}<extra></extra>",
        **scale,
    )
    rows = [[name_, *row] for name_, row in zip(y, shown, strict=True)]
    return Figure(drawing, aid, name, ["", *x], rows, hint=hint)


def elbow(result: Clusters) -> Figure:
    """Sum of squared distances and silhouette over k, with the suggested k."""
    ks = [int(k) for k in result.inertia]
    top = max(result.inertia.values()) or 1.0
    agreeing = "random halves" if result.strength else "seeds"  # earlier versions compared seeds
    drawing = go.Figure(
        layout=layout_of(
            300, xaxis={"title": "clusters k", "dtick": 1}, yaxis={"title": "share of 1", "rangemode": "tozero"}
        )
    )
    series = {
        "distance within clusters (elbow)": [v / top for v in result.inertia.values()],
        "silhouette": list(result.silhouette.values()),
        f"agreement of {agreeing}": list(result.stability.values()),
    }
    styles = ((ACCENT, "circle", "solid"), (ACCENT_2, "diamond", "solid"), (ACCENT_3, "square", "dot"))
    for (name, values), (colour, symbol, dash) in zip(series.items(), styles, strict=True):
        drawing.add_scatter(
            x=ks,
            y=[round(v, 4) for v in values],
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 7},
        )
    drawing.add_vline(x=result.suggested_k, line={"dash": "dash", "color": MUTED}, annotation_text="suggested")
    rows = [[k, result.inertia[str(k)], result.silhouette[str(k)], result.stability[str(k)]] for k in ks]
    aid = (
        f"Why {result.suggested_k}: high silhouette means clusters lie apart, high agreement "
        f"that {agreeing} give the same ones. The curve's elbow is at {result.elbow_k}."
    )
    return Figure(drawing, aid, "choice-of-k", ["k", "sum of squares", "silhouette", "agreement"], rows)
