"""Figures of the matrices: numbers of ``weights.json``, ``map.json`` and ``compare.json`` in, figure out."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hydralora.results import Comparison, DriftRow, HeadFigures, MatrixMap, Point
from studio.figures import head_titles as titles
from studio.figures.base import MARGIN, Figure, heatmap, layout_of, short_layer
from studio.figures.palette import (
    ACCENT,
    ACCENT_2,
    ACCENT_3,
    MUTED,
    cluster_colour,
    cluster_shape,
    expert_colour,
    expert_name,
    expert_shape,
)

MEASURES = {
    "update_cosine": ("cosine of the updates B A", "cosine"),
    "head_cosine": ("cosine of the heads B", "cosine"),
    "overlap": ("overlap of the column spaces", "overlap"),
    "cka": ("CKA of the updates B A", "CKA"),
}


TERM_OF = {"update_cosine": "cosine", "head_cosine": "cosine", "overlap": "overlap", "cka": "cka"}


def chance_of(layer: HeadFigures, what: str) -> float:
    """The 99 % level of random heads for a measure in one layer (the highest where pairs differ)."""
    level = layer.levels(what)
    return max((level[i][j] for i in range(len(level)) for j in range(i)), default=0.0)


def head_similarity(layers: list[HeadFigures], index: int, what: str) -> Figure:
    """How alike the heads of one layer are, by one of ``MEASURES``."""
    found = layers[index]
    experts = [expert_name(e) for e in range(len(found.update_norm))]
    words, label = MEASURES[what]
    aid = (
        f"{short_layer(found.name)}: {words}. Random heads of this shape stay below "
        f"{chance_of(found, what):.2f} in 99 of "
        "100 draws; 1 is the same direction."
    )
    middle = 0.0 if what.endswith("cosine") else None
    title = titles.heads(found, what, label)
    values, name = found.measure(what), f"heads-{what}"
    terms = (TERM_OF[what], "update", "chance")
    return heatmap(values, experts, experts, title=title, aid=aid, name=name, middle=middle, label=label, terms=terms)


def similarity_by_layer(layers: list[HeadFigures], what: str = "update_cosine") -> Figure:
    """Mean size of a measure between different heads, blocks by kinds of layer."""
    kinds = list(dict.fromkeys(layer.kind for layer in layers))
    blocks = sorted({layer.layer for layer in layers})
    grid = np.full((len(kinds), len(blocks)), np.nan)
    ids: list[list[int]] = [[-1] * len(blocks) for _ in kinds]
    for index, layer in enumerate(layers):
        matrix = np.abs(np.array(layer.measure(what)))
        off = matrix[~np.eye(len(matrix), dtype=bool)]
        row, column = kinds.index(layer.kind), blocks.index(layer.layer)
        grid[row, column] = off.mean() if off.size else np.nan
        ids[row][column] = index
    words, label = MEASURES[what]
    level = max(chance_of(layer, what) for layer in layers)
    aid = (
        f"Mean size of the {words} between different heads in each layer: 1 means copies; random heads stay below "
        f"{level:.2f}. Click a cell for its heads."
    )
    title, columns = titles.by_layer(layers, what, label), [f"L{b}" for b in blocks]
    name, terms = f"similarity-{what}", (TERM_OF[what], "update", "chance")
    return heatmap(grid.tolist(), columns, kinds, title=title, aid=aid, name=name, label=label, ids=ids, terms=terms)


def norms(layers: list[HeadFigures]) -> Figure:
    """Frobenius norm of every head's update, per layer."""
    names = [short_layer(layer.name) for layer in layers]
    drawing = go.Figure(
        layout=layout_of(300, xaxis={"tickangle": -45}, yaxis={"title": "norm of B A", "rangemode": "tozero"})
    )
    experts = len(layers[0].update_norm)
    for expert in range(experts):
        drawing.add_scatter(
            x=names,
            y=[round(layer.update_norm[expert], 5) for layer in layers],
            name=expert_name(expert),
            mode="markers",
            marker={"symbol": expert_shape(expert), "color": expert_colour(expert), "size": 8, "line": {"width": 1}},
        )
    drawing.update_layout(margin={**MARGIN, "b": 90})
    aid = "How large the update of each head is, before its gate. A head far below the others has learnt little."
    head = [
        "layer",
        *[f"{expert_name(e)} norm" for e in range(experts)],
        *[f"{expert_name(e)} effective rank" for e in range(experts)],
    ]
    rows = [[n, *layer.update_norm, *layer.effective_rank] for n, layer in zip(names, layers, strict=True)]
    return Figure(drawing, aid, "update-norms", head, rows, titles.norms(layers), terms=("update", "norm"))


def drift(rows: list[DriftRow], sentence: str) -> Figure:
    """How A, the router and the heads move over the stored steps."""
    lines = {
        "a_moved": ("A moved by", ACCENT, "circle"),
        "a_kept": ("space A still reads", MUTED, "square"),
        "router_moved": ("router moved by", ACCENT_2, "diamond"),
        "similarity": ("similarity of heads", ACCENT_3, "x"),
    }
    steps = [row.step for row in rows]
    drawing = go.Figure(layout=layout_of(320, xaxis={"title": "step"}, yaxis={"title": "share", "rangemode": "tozero"}))
    shown = [key for key in lines if any(getattr(row, key) is not None for row in rows)]
    for key in shown:
        name, colour, symbol = lines[key]
        values = [getattr(row, key) if key != "similarity" or row.trained else None for row in rows]
        drawing.add_scatter(
            x=steps,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"symbol": symbol, "size": 8},
        )
    aid = (
        f"{sentence} Means over layers; the similarity of heads is the mean |cosine| of their "
        f"updates, empty while they are zero."
    )
    table = [[row.step, *[getattr(row, key) for key in shown]] for row in rows]
    head = ["step", *[lines[key][0] for key in shown]]
    return Figure(drawing, aid, "drift", head, table, titles.drift(rows), terms=("update", "cosine", "overlap"))


def matrix_map(found: MatrixMap) -> Figure:
    """A or B matrices of all layers on a plane; colour is the run, the expert (B) or the kind of layer (A)."""
    points = found.points
    runs = list(dict.fromkeys(point.run for point in points))
    groups: dict[str, list[int]] = {}
    for index, point in enumerate(points):
        key = point.run if len(runs) > 1 else expert_name(point.expert) if found.which == "B" else point.kind
        groups.setdefault(key, []).append(index)
    by_expert = found.which == "B" and len(runs) == 1
    colour, shape = (expert_colour, expert_shape) if by_expert else (cluster_colour, cluster_shape)
    drawing = go.Figure(
        layout=layout_of(
            440, xaxis={"showticklabels": False, "showline": False}, yaxis={"showticklabels": False, "showgrid": False}
        )
    )
    for order, (key, members) in enumerate(groups.items()):
        labels = [_point_name(points[i]) for i in members]
        drawing.add_scatter(
            x=[found.x[i] for i in members],
            y=[found.y[i] for i in members],
            name=escape(key),
            mode="markers",
            customdata=members,
            text=labels,
            hovertemplate="%{text}<extra></extra>",
            marker={"color": colour(order), "symbol": shape(order), "size": 9, "line": {"width": 1}},
        )
    layout = {"pca": "PCA (classical scaling)", "tsne": "t-SNE", "umap": "UMAP"}[found.layout]
    stable = "" if found.layout == "pca" else f" Stability over seeds {found.stability:.2f} of 1."
    distance = {"cosine": "cosine distances of the raw matrices", "subspace": "overlaps of their spaces"}[
        found.similarity
    ]
    aid = f"{layout} of the {found.which} matrices, seed {found.seed}, from {distance}.{stable} {found.sentence}"
    rows = [[p.run, p.module, p.expert, x, y] for p, x, y in zip(points, found.x, found.y, strict=True)]
    head, name = ["run", "module", "expert", "x", "y"], f"map-{found.which}-{found.layout}"
    return Figure(drawing, aid, name, head, rows, titles.matrix_map(found), terms=("map", "chance"))


def _point_name(point: Point) -> str:
    expert = f" {expert_name(point.expert)}" if point.expert >= 0 else ""
    return escape(f"{short_layer(point.module)}{expert}, {point.run}")


def similarity_of_kind(found: MatrixMap, distances: np.ndarray, kind: str) -> Figure:
    """Similarity of every two matrices of one kind of layer, in the order of layers and experts."""
    chosen = [i for i, point in enumerate(found.points) if point.kind == kind]
    several = len({found.points[i].run for i in chosen}) > 1
    names = []
    for i in chosen:
        point = found.points[i]
        expert = f" {expert_name(point.expert)}" if point.expert >= 0 else ""
        names.append(f"L{point.layer}{expert}" + (f" {point.run}" if several else ""))
    similarity = 1.0 - distances[np.ix_(chosen, chosen)]
    measure = {"cosine": "|cosine| of the raw matrices", "subspace": "overlap of their spaces"}[found.similarity]
    aid = (
        f"{measure} of every two {found.which} matrices of {kind}; the map below is drawn from "
        f"these numbers. {found.sentence}"
    )
    title, name = titles.of_kind(found, similarity, names, kind), f"similarity-{found.which}-{kind}"
    terms = ({"cosine": "cosine", "subspace": "overlap"}[found.similarity],)
    return heatmap(similarity.tolist(), names, names, title=title, aid=aid, name=name, label="similarity", terms=terms)


PARTS = {"A": "overlap of what A reads", "B": "overlap of what the heads write", "BA": "|cosine| of the updates B A"}


def comparison(found: Comparison, part: str) -> Figure:
    """How alike several runs are in what they read, write or change, mean over layers."""
    shown = found.parts[part]
    aid = (
        f"{PARTS[part]}, mean over {len(found.layers)} layers; random matrices reach "
        f"{shown.chance:.2f}. {found.sentence}"
    )
    title, name = titles.runs(found, part), f"runs-{part}"
    terms = ("update", "cosine" if part == "BA" else "overlap", "chance")
    return heatmap(shown.mean, found.runs, found.runs, title=title, aid=aid, name=name, label=part, terms=terms)


def comparison_by_layer(found: Comparison) -> Figure:
    """Mean similarity of different runs in every layer, for A, heads and updates, with their chance levels."""
    names = [short_layer(layer.name) for layer in found.layers]
    drawing = go.Figure(
        layout=layout_of(
            320, xaxis={"tickangle": -45, "automargin": True}, yaxis={"title": "similarity", "range": [0, 1.02]}
        )
    )
    styles = {"A": (ACCENT, "circle"), "B": (ACCENT_2, "diamond"), "BA": (ACCENT_3, "square")}
    table: list[list[Any]] = [[name] for name in names]
    for part, (colour, symbol) in styles.items():
        for what in ("value", "chance"):
            means = [_off_mean(getattr(layer.part(part), what)) for layer in found.layers]
            mode = (
                {"mode": "markers", "marker": {"color": colour, "symbol": symbol, "size": 8}}
                if what == "value"
                else {"mode": "lines", "line": {"color": colour, "dash": "dot", "width": 1}}
            )
            drawing.add_scatter(x=names, y=means, name=f"{part}{' chance' if what == 'chance' else ''}", **mode)
            for row, value in zip(table, means, strict=True):
                row.append(value)
    aid = (
        "Every layer: similarity of different runs (marks) beside what random matrices reach "
        "(dotted lines of the same colour)."
    )
    head = ["layer", *[f"{part} {what}" for part in styles for what in ("similarity", "chance")]]
    return Figure(
        drawing, aid, "runs-by-layer", head, table, titles.runs_by_layer(found), terms=("update", "overlap", "chance")
    )


def _off_mean(matrix: list[list[float]]) -> float:
    array = np.array(matrix)
    return round(float(array[~np.eye(len(array), dtype=bool)].mean()), 5)
