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

from studio.palette import (
    ACCENT,
    ACCENT_2,
    MUTED,
    cluster_colour,
    cluster_name,
    cluster_shape,
    expert_colour,
    expert_name,
    expert_shape,
)

MAX_POINTS = 20_000  # drawn of a map; more are sampled, and said so
SVG_POINTS = 3_000  # beyond, WebGL draws
CURVE_POINTS = 2_000
MARGIN = {"l": 56, "r": 16, "t": 16, "b": 44}


@dataclass
class Figure:
    """A figure for a ``FigurePanel``: the drawing, one sentence that says how to read it, a table."""

    figure: go.Figure
    aid: str
    name: str
    head: list[str]
    rows: list[list[Any]] = field(default_factory=list)

    def to_json(self) -> str:
        """The panel's JSON."""
        drawing = self.figure.to_json()
        rest = json.dumps({"aid": self.aid, "name": self.name,
                           "table": {"head": self.head, "rows": self.rows}}, ensure_ascii=False)  # fmt: skip
        return f'{{"figure":{drawing},{rest[1:]}'


def layout_of(height: int, **more: Any) -> dict[str, Any]:
    base = {"height": height, "margin": MARGIN, "template": "none", "hovermode": "closest",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}}  # fmt: skip
    return {**base, **more}


def short_layer(name: str) -> str:
    """``L3 gate`` for ``model.layers.3.mlp.gate_proj``."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdigit()), "")
    last = parts[-1].removesuffix("_proj")
    return f"L{number} {last}" if number else last


def _thin(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).astype(int))


def curve(steps: Sequence[int], lines: Mapping[str, Sequence[float | None]], *, y: str, name: str, aid: str) -> Figure:
    """Values over steps; a smoothed line where there are many points."""
    drawing = go.Figure(layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": y}))
    palette = (ACCENT, ACCENT_2, MUTED)
    for index, (label, values) in enumerate(lines.items()):
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        keep = _thin(len(known)).tolist() if known else []
        known = [known[i] for i in keep]
        sparse = len(known) < 60
        drawing.add_scatter(
            x=[s for s, _ in known], y=[v for _, v in known], name=label,
            mode="lines+markers" if sparse else "lines",
            line={"color": palette[index % 3], "width": 2, "dash": "dot" if index == 1 else "solid"},
            marker={"size": 6, "symbol": "circle" if index == 0 else "diamond"},
        )  # fmt: skip
    rows = [[s, *[values[i] for values in lines.values()]] for i, s in enumerate(steps)]
    return Figure(drawing, aid, name, ["step", *lines], rows)


def gate_curves(steps: Sequence[int], means: Sequence[Sequence[float]], layer: str) -> Figure:
    """Mean gate weight of every expert over steps."""
    drawing = go.Figure(
        layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": "mean gate weight", "range": [0, 1]})
    )
    array = np.array(means)
    for expert in range(array.shape[1]):
        drawing.add_scatter(x=list(steps), y=array[:, expert].round(4).tolist(), name=expert_name(expert),
                            mode="lines+markers", line={"color": expert_colour(expert), "width": 2},
                            marker={"symbol": expert_shape(expert), "size": 6})  # fmt: skip
    drawing.add_hline(y=1 / array.shape[1], line={"dash": "dot", "color": MUTED, "width": 1})
    aid = f"Share of each expert, {layer}. The dotted line is an equal share; lines that leave it show a router that chooses."
    names = [expert_name(e) for e in range(array.shape[1])]
    rows = [[s, *map(float, row.round(4))] for s, row in zip(steps, array, strict=True)]
    return Figure(drawing, aid, "gates-over-steps", ["step", *names], rows)


def heatmap(
    values: Sequence[Sequence[float]], x: Sequence[str], y: Sequence[str], *, aid: str, name: str,
    low: float = 0.0, high: float = 1.0, middle: float | None = None, ids: Any = None, label: str = "gate",
) -> Figure:  # fmt: skip
    """A matrix of numbers; ``middle`` makes the colours diverge around it. Names are drawn as they are written.

    NaN is a cell without a number and stays empty.
    """
    array = np.array(values, dtype=float)
    scale: dict[str, Any] = {"colorscale": "Cividis", "zmin": low, "zmax": high}
    if middle is not None:
        reach = max(float(np.nanmax(np.abs(array - middle), initial=0.0)), 1e-6)
        scale = {"colorscale": "RdBu_r", "zmin": middle - reach, "zmax": middle + reach}
    row = 30 if len(y) <= 24 else max(7, 720 // len(y))
    drawing = go.Figure(layout=layout_of(max(170, row * len(y) + (110 if len(x) > 8 else 70)),
                                       xaxis={"tickangle": -45 if len(x) > 8 else 0, "automargin": True},
                                       yaxis={"autorange": "reversed", "automargin": True}))  # fmt: skip
    shown = [[None if np.isnan(value) else float(value) for value in row] for row in array.round(4)]
    drawing.add_heatmap(z=shown, x=[escape(name_) for name_ in x], y=[escape(name_) for name_ in y], customdata=ids, xgap=1, ygap=1,
                        colorbar={"title": {"text": label}, "thickness": 12},
                        hovertemplate="%{y}, %{x}<br>" + label + " %{z:.3f}<extra></extra>", **scale)  # fmt: skip
    rows = [[name_, *row] for name_, row in zip(y, shown, strict=True)]
    return Figure(drawing, aid, name, ["", *x], rows)


def corpus_map(cluster: np.ndarray, x: np.ndarray, y: np.ndarray, words: list[list[str]]) -> Figure:
    """Examples on the plane of the two largest directions, coloured by cluster."""
    total = len(cluster)
    chosen = np.arange(total)
    if total > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(total, MAX_POINTS, replace=False))
    kind = go.Scattergl if len(chosen) > SVG_POINTS else go.Scatter
    drawing = go.Figure(layout=layout_of(460, dragmode="lasso", xaxis={"showticklabels": False, "zeroline": False},
                                       yaxis={"showticklabels": False, "zeroline": False}))  # fmt: skip
    for index in range(len(words)):
        ids = chosen[cluster[chosen] == index]
        drawing.add_trace(kind(x=x[ids].astype(np.float32), y=y[ids].astype(np.float32), mode="markers", customdata=ids,
                               name=cluster_name(index), hovertemplate="example %{customdata}<extra>" + cluster_name(index) + "</extra>",
                               marker={"color": cluster_colour(index), "symbol": cluster_shape(index), "size": 6, "opacity": 0.8}))  # fmt: skip
    shown = f"{len(chosen):,} of {total:,} examples drawn" if len(chosen) < total else f"{total:,} examples"
    aid = f"{shown}. Near points use similar words (TF-IDF, first two SVD directions). Draw a loop around points to read them below."
    counts = np.bincount(cluster, minlength=len(words))
    rows = [[cluster_name(i), int(counts[i]), ", ".join(words[i])] for i in range(len(words))]
    return Figure(drawing, aid, "corpus-map", ["cluster", "examples", "words"], rows)


def elbow(result: dict[str, Any]) -> Figure:
    """Sum of squared distances and silhouette over k, with the suggested k."""
    ks = [int(k) for k in result["inertia"]]
    top = max(result["inertia"].values()) or 1.0
    drawing = go.Figure(
        layout=layout_of(
            300, xaxis={"title": "clusters k", "dtick": 1}, yaxis={"title": "share of 1", "rangemode": "tozero"}
        )
    )
    series = {"distance within clusters (elbow)": [v / top for v in result["inertia"].values()],
              "silhouette": list(result["silhouette"].values()), "agreement over seeds": list(result["stability"].values())}  # fmt: skip
    styles = ((ACCENT, "circle", "solid"), (ACCENT_2, "diamond", "solid"), (MUTED, "square", "dot"))
    for (name, values), (colour, symbol, dash) in zip(series.items(), styles, strict=True):
        drawing.add_scatter(x=ks, y=[round(v, 4) for v in values], name=name, mode="lines+markers",
                            line={"color": colour, "dash": dash}, marker={"symbol": symbol, "size": 7})  # fmt: skip
    drawing.add_vline(x=result["suggested_k"], line={"dash": "dash", "color": MUTED}, annotation_text="suggested")
    rows = [[k, result["inertia"][str(k)], result["silhouette"][str(k)], result["stability"][str(k)]] for k in ks]
    aid = f"Why {result['suggested_k']}: high silhouette means clusters lie apart, high agreement that other seeds find the same ones. The curve's elbow is at {result['elbow_k']}."
    return Figure(drawing, aid, "choice-of-k", ["k", "sum of squares", "silhouette", "agreement"], rows)
