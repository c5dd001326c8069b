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


def _layout(height: int, **more: Any) -> dict[str, Any]:
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
    drawing = go.Figure(layout=_layout(320, xaxis={"title": "step"}, yaxis={"title": y}))
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
        layout=_layout(320, xaxis={"title": "step"}, yaxis={"title": "mean gate weight", "range": [0, 1]})
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
    """A matrix of numbers; ``middle`` makes the colours diverge around it. Names are drawn as they are written."""
    array = np.array(values, dtype=float)
    scale: dict[str, Any] = {"colorscale": "Cividis", "zmin": low, "zmax": high}
    if middle is not None:
        reach = max(float(np.nanmax(np.abs(array - middle))), 1e-6)
        scale = {"colorscale": "RdBu_r", "zmin": middle - reach, "zmax": middle + reach}
    drawing = go.Figure(layout=_layout(max(170, 30 * len(y) + (110 if len(x) > 8 else 70)),
                                       xaxis={"tickangle": -45 if len(x) > 8 else 0, "automargin": True},
                                       yaxis={"autorange": "reversed", "automargin": True}))  # fmt: skip
    drawing.add_heatmap(z=array.round(4).tolist(), x=[escape(name_) for name_ in x], y=[escape(name_) for name_ in y], customdata=ids, xgap=1, ygap=1,
                        colorbar={"title": {"text": label}, "thickness": 12},
                        hovertemplate="%{y}, %{x}<br>" + label + " %{z:.3f}<extra></extra>", **scale)  # fmt: skip
    rows = [[name_, *map(float, row.round(4))] for name_, row in zip(y, array, strict=True)]
    return Figure(drawing, aid, name, ["", *x], rows)


def gate_heatmap(routing: dict[str, Any]) -> Figure:
    """Mean gate weight, experts by layers; a click opens the layer."""
    mean = np.array(routing["mean"]).T  # (experts, layers)
    layers = [short_layer(name) for name in routing["layers"]]
    experts = [expert_name(e) for e in range(mean.shape[0])]
    ids = [[[layer, e] for layer in range(len(layers))] for e in range(len(experts))]
    aid = (f"Mean gate weight over {routing['tokens']:,} tokens of {routing['examples']:,} examples; white is an equal "
           f"share (1/{len(experts)}), red speaks more, blue less. Click a cell to read the texts behind it.")  # fmt: skip
    return heatmap(mean.tolist(), layers, experts, aid=aid, name="gates-by-layer", middle=1 / len(experts), ids=ids)


def group_heatmap(group: dict[str, Any], kind: str) -> Figure:
    """Mean gate weight, groups of examples by experts."""
    mean = np.array(group["mean"])
    experts = [expert_name(e) for e in range(mean.shape[1])]
    aid = f"Mean gate weight of each expert in each {kind}, over all layers. {group['sentence']}"
    return heatmap(mean.tolist(), experts, group["names"], aid=aid, name=f"gates-by-{kind}", middle=1 / len(experts))


def agreement(group: dict[str, Any], layers: Sequence[str], kind: str) -> Figure:
    """Per layer, how much of the variation of the gates lies between groups, with the chance band."""
    names = [short_layer(name) for name in layers]
    drawing = go.Figure(
        layout=_layout(300, xaxis={"tickangle": -45}, yaxis={"title": "R² between groups", "rangemode": "tozero"})
    )
    drawing.add_bar(x=names, y=group["r2"], name="R² of the gates", marker={"color": ACCENT})
    drawing.add_scatter(x=names, y=group["nmi"], name="NMI of the leading expert", mode="markers",
                        marker={"symbol": "diamond", "color": ACCENT_2, "size": 8})  # fmt: skip
    drawing.add_hline(y=group["band"], line={"dash": "dash", "color": MUTED}, annotation_text="chance (99 %)")
    drawing.update_layout(margin={**MARGIN, "b": 90})
    aid = f"How far the gates of each layer follow the {kind}s. Bars below the dashed line are no more than shuffled {kind}s reach."
    rows = [[n, r, m] for n, r, m in zip(names, group["r2"], group["nmi"], strict=True)]
    return Figure(drawing, aid, f"agreement-with-{kind}", ["layer", "R2", "NMI"], rows)


def gate_distribution(routing: dict[str, Any], layer: int) -> Figure:
    """Histogram of per-token gate weights of each expert in one layer."""
    counts = np.array(routing["histogram"])[layer]  # (experts, bins)
    edges = (np.arange(counts.shape[1]) + 0.5) / counts.shape[1]
    drawing = go.Figure(layout=_layout(300, barmode="overlay", xaxis={"title": "gate weight of a token", "range": [0, 1]},
                                       yaxis={"title": "share of tokens"}))  # fmt: skip
    for expert, row in enumerate(counts):
        drawing.add_scatter(x=edges.tolist(), y=row.tolist(), name=expert_name(expert), mode="lines+markers",
                            line={"color": expert_colour(expert), "shape": "hvh"},
                            marker={"symbol": expert_shape(expert), "size": 5})  # fmt: skip
    name = short_layer(routing["layers"][layer])
    aid = f"{name}: how the gate weights of single tokens are spread. One narrow peak is a router that gives every token the same."
    rows = [[round(float(e), 3), *map(float, column)] for e, column in zip(edges, counts.T, strict=True)]
    return Figure(
        drawing, aid, f"gate-distribution-{layer}", ["gate", *[expert_name(e) for e in range(len(counts))]], rows
    )


def effective_experts(routing: dict[str, Any]) -> Figure:
    """Effective number of experts per layer."""
    names = [short_layer(name) for name in routing["layers"]]
    values = routing["effective_experts"]
    drawing = go.Figure(
        layout=_layout(
            280, xaxis={"tickangle": -45}, yaxis={"title": "experts", "range": [0, routing["experts"] * 1.05]}
        )
    )
    drawing.add_bar(x=names, y=values, marker={"color": ACCENT}, name="effective number")
    drawing.add_hline(y=routing["experts"], line={"dash": "dot", "color": MUTED})
    drawing.update_layout(margin={**MARGIN, "b": 90})
    aid = f"exp(entropy) of the gates, mean over tokens: {routing['experts']} is an equal mix of all, 1 is one expert alone."
    return Figure(
        drawing,
        aid,
        "effective-experts",
        ["layer", "effective experts"],
        [list(row) for row in zip(names, values, strict=True)],
    )


def token_classes(routing: dict[str, Any]) -> Figure:
    """Mean gate weight, token classes by experts."""
    found = routing["token_classes"]
    names = [f"{n} ({c:,})" for n, c in zip(found["names"], found["counts"], strict=True)]
    experts = [expert_name(e) for e in range(routing["experts"])]
    aid = "Mean gate weight of each expert for kinds of tokens (how many were seen), over all layers."
    return heatmap(found["mean"], experts, names, aid=aid, name="gates-by-token-class", middle=1 / len(experts))


MEASURES = {
    "update_cosine": ("cosine of the updates B A", "cosine"),
    "head_cosine": ("cosine of the heads B", "cosine"),
    "overlap": ("overlap of the column spaces", "overlap"),
    "cka": ("CKA of the updates B A", "CKA"),
}


def chance_of(layer: dict[str, Any], what: str) -> float:
    """The 99 % level of random heads for a measure in one layer (the highest where pairs differ)."""
    level = layer[f"chance_{what}"]
    pairs = [level[i][j] for i in range(len(level)) for j in range(i)] if isinstance(level, list) else [level]
    return float(max(pairs, default=0.0))


def head_similarity(layers: list[dict[str, Any]], index: int, what: str) -> Figure:
    """How alike the heads of one layer are, by one of ``MEASURES``."""
    found = layers[index]
    experts = [expert_name(e) for e in range(len(found[what]))]
    words, label = MEASURES[what]
    aid = (f"{short_layer(found['name'])}: {words}. Random heads of this shape stay below {chance_of(found, what):.2f} in 99 of "
           "100 draws; 1 is the same direction.")  # fmt: skip
    middle = 0.0 if what.endswith("cosine") else None
    return heatmap(found[what], experts, experts, aid=aid, name=f"heads-{what}", middle=middle, label=label)


def similarity_by_layer(layers: list[dict[str, Any]]) -> Figure:
    """Mean |cosine| between the updates of different heads, blocks by kinds of layer."""
    kinds = list(dict.fromkeys(layer["kind"] for layer in layers))
    blocks = sorted({layer["layer"] for layer in layers})
    grid = np.full((len(kinds), len(blocks)), np.nan)
    ids: list[list[int]] = [[-1] * len(blocks) for _ in kinds]
    for index, layer in enumerate(layers):
        matrix = np.abs(np.array(layer["update_cosine"]))
        off = matrix[~np.eye(len(matrix), dtype=bool)]
        row, column = kinds.index(layer["kind"]), blocks.index(layer["layer"])
        grid[row, column] = off.mean() if off.size else np.nan
        ids[row][column] = index
    aid = "Mean |cosine| between the updates B A of different heads in each layer: 1 means copies, near 0 unlike. Click a cell for its heads."
    found = heatmap(
        np.nan_to_num(grid),
        [f"L{b}" for b in blocks],
        kinds,
        aid=aid,
        name="head-similarity",
        label="|cosine|",
        ids=ids,
    )
    return found


def norms(layers: list[dict[str, Any]]) -> Figure:
    """Frobenius norm of every head's update, per layer."""
    names = [short_layer(layer["name"]) for layer in layers]
    drawing = go.Figure(
        layout=_layout(300, xaxis={"tickangle": -45}, yaxis={"title": "norm of B A", "rangemode": "tozero"})
    )
    experts = len(layers[0]["update_norm"])
    for expert in range(experts):
        drawing.add_scatter(x=names, y=[round(layer["update_norm"][expert], 5) for layer in layers], name=expert_name(expert), mode="markers",
                            marker={"symbol": expert_shape(expert), "color": expert_colour(expert), "size": 8, "line": {"width": 1}})  # fmt: skip
    drawing.update_layout(margin={**MARGIN, "b": 90})
    aid = "How large the update of each head is, before its gate. A head far below the others has learnt little."
    head = [
        "layer",
        *[f"{expert_name(e)} norm" for e in range(experts)],
        *[f"{expert_name(e)} effective rank" for e in range(experts)],
    ]
    rows = [[n, *layer["update_norm"], *layer["effective_rank"]] for n, layer in zip(names, layers, strict=True)]
    return Figure(drawing, aid, "update-norms", head, rows)


def matrix_map(found: dict[str, Any]) -> Figure:
    """A or B matrices of all layers on a plane; colour is the expert (B) or the kind of layer (A)."""
    points = found["points"]
    by_expert = found["which"] == "B"
    groups: dict[str, list[int]] = {}
    for index, point in enumerate(points):
        key = expert_name(point["expert"]) if by_expert else point["kind"]
        groups.setdefault(key, []).append(index)
    drawing = go.Figure(
        layout=_layout(440, xaxis={"showticklabels": False, "title": ""}, yaxis={"showticklabels": False, "title": ""})
    )
    for order, (key, members) in enumerate(groups.items()):
        labels = [short_layer(points[i]["module"]) for i in members]
        drawing.add_scatter(x=[found["x"][i] for i in members], y=[found["y"][i] for i in members], name=key, mode="markers",
                            customdata=members, text=labels, hovertemplate="%{text}, " + key + "<extra></extra>",
                            marker={"color": expert_colour(order), "symbol": expert_shape(order), "size": 9, "line": {"width": 1}})  # fmt: skip
    layout = {"pca": "PCA (classical scaling)", "tsne": "t-SNE", "umap": "UMAP"}[found["layout"]]
    stable = "" if found["layout"] == "pca" else f" Stability over seeds {found['stability']:.2f} of 1."
    aid = f"{layout} of the {found['which']} matrices, seed {found['seed']}, from cosine distances.{stable} {found['sentence']}"
    rows = [[p["run"], p["module"], p["expert"], x, y] for p, x, y in zip(points, found["x"], found["y"], strict=True)]
    return Figure(drawing, aid, f"map-{found['which']}-{found['layout']}", ["run", "module", "expert", "x", "y"], rows)


def corpus_map(cluster: np.ndarray, x: np.ndarray, y: np.ndarray, words: list[list[str]]) -> Figure:
    """Examples on the plane of the two largest directions, coloured by cluster."""
    total = len(cluster)
    chosen = np.arange(total)
    if total > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(total, MAX_POINTS, replace=False))
    kind = go.Scattergl if len(chosen) > SVG_POINTS else go.Scatter
    drawing = go.Figure(layout=_layout(460, dragmode="lasso", xaxis={"showticklabels": False, "zeroline": False},
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
        layout=_layout(
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
