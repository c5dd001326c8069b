"""Numbers in, figure out: plotly figures with a reading aid and the same numbers as a table.

No text of a corpus or model enters a figure; points carry ids only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
    resolved,
)
from studio.terms import explained

MARGIN = {"l": 56, "r": 16, "t": 16, "b": 44}  # px
LABEL_ROOM = 84  # px at the right, for names at the ends of lines
LABEL_GAP = 15  # px between two names
LETTER = 6.6  # px of one of a name
LONGEST_TICK = 26  # characters of a name on an axis
WIDEST = 260  # px that names below an axis take beside each other; more are turned
TURNED = 5.0  # px that a letter of a turned name takes from the height
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
    """A figure for a ``FigurePanel``: what it shows as one line, the drawing, how to read it, a table.

    ``title`` is computed from the numbers that are drawn, by a rule that tells no difference which chance could have
    made. ``hint`` says what a click does, for the pages on which it does something; ``terms`` are those of
    ``studio.terms`` that a reader may not know.
    """

    figure: go.Figure
    aid: str
    name: str
    head: list[str]
    rows: list[list[Any]]
    title: str
    hint: str = ""
    terms: Sequence[str] = ()

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
                "terms": explained(self.terms),
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

    Where there are more names than room, the highest ends are named.

    Args:
        ends: x, y, name and colour of each line's end.
        low: Least y of the axis.
        high: Largest y of the axis.
    """
    tall = drawing.layout.height - MARGIN["t"] - MARGIN["b"]
    right = max(x for x, _, _, _ in ends)  # a line that ends earlier would have its name over the others
    ends = sorted(ends, key=lambda end: -end[1])[: tall // LABEL_GAP]
    places = _apart([y for _, y, _, _ in ends], LABEL_GAP * (high - low) / tall, low, high)
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
    longest = max(len(name) for _, _, name, _ in ends)
    drawing.update_layout(showlegend=False, margin={**MARGIN, "r": int(max(LABEL_ROOM, 24 + LETTER * longest))})


def hold_range(drawing: go.Figure, steps: tuple[float, float], values: tuple[float, float]) -> None:
    """Let the axes go from the first to the last step and from the lowest to the highest value; names stand outside."""
    first, last = steps
    drawing.update_xaxes(range=[first, max(last, first + 1)])
    drawing.update_yaxes(range=list(values))
    drawing.update_traces(cliponaxis=False, selector={"type": "scatter"})


def _apart(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Values in their order, moved so that any two are at least ``gap`` apart and all lie between ``low`` and ``high``,
    which must have room for them."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    places, floor, ceiling = list(values), low, high
    for i in order:
        places[i] = max(values[i], floor)
        floor = places[i] + gap
    for i in reversed(order):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def shortened(name: str, most: int) -> str:
    """A name that fits into a title or beside a figure, in characters."""
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def percent(share: float) -> str:
    """``41 %`` for 0.41."""
    return f"{100 * share:.0f} %"


def short_layer(name: str) -> str:
    """``L3 gate`` for ``model.layers.3.mlp.gate_proj``."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdigit()), "")
    last = parts[-1].removesuffix("_proj")
    return f"L{number} {last}" if number else last


def heatmap(
    values: Sequence[Sequence[float]],
    x: Sequence[str],
    y: Sequence[str],
    *,
    title: str,
    aid: str,
    name: str,
    low: float = 0.0,
    high: float = 1.0,
    middle: float | None = None,
    ids: Any = None,
    label: str = "gate",
    hint: str = "",
    terms: Sequence[str] = (),
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
    letters = min(LONGEST_TICK, max(map(len, x), default=0))
    is_turned = len(x) > 8 or len(x) * letters * LETTER > WIDEST
    drawing = go.Figure(
        layout=layout_of(
            max(170, int(row * len(y) + (60 + TURNED * letters if is_turned else 70))),
            xaxis={"tickangle": -45 if is_turned else 0, "automargin": True, **_ticks(x), "showline": False},
            yaxis={"autorange": "reversed", "automargin": True, "showgrid": False, **_ticks(y)},
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
        colorbar={"title": {"text": label, "side": "right"}, "thickness": 12, "outlinewidth": 0, "nticks": 5},
        hovertemplate="%{y}, %{x}<br>" + label + " %{z:.3f}<extra></extra>",
        **scale,
    )
    rows = [[name_, *row] for name_, row in zip(y, shown, strict=True)]
    return Figure(drawing, aid, name, ["", *x], rows, title, hint, terms)


def _ticks(names: Sequence[str]) -> dict[str, Any]:
    """Names at their places on an axis, as many as it has room for; where one is long, all of them and it shortened."""
    if all(len(name) <= LONGEST_TICK for name in names):
        return {"nticks": 0}
    texts = [escape(shortened(name, LONGEST_TICK)) for name in names]
    return {"tickmode": "array", "tickvals": [escape(name) for name in names], "ticktext": texts}


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
    head = ["k", "sum of squares", "silhouette", "agreement"]
    terms = ("silhouette", "agreement", "elbow")
    return Figure(drawing, aid, "choice-of-k", head, rows, _choice_in_words(result), terms=terms)


def _choice_in_words(result: Clusters) -> str:
    """How clearly one number of clusters stands out."""
    k = result.suggested_k
    silhouette = result.silhouette.get(str(k))
    at = f"the elbow is {result.elbow_k}" if silhouette is None else f"silhouette {silhouette:.2f}"
    if not result.is_clear and result.low_k < result.high_k:
        return f"No number stands out between {result.low_k} and {result.high_k}; {k} is a start"
    return f"{k} clusters are suggested ({at})" if k > 1 else "The texts do not fall into several clusters"
