"""Figures of the gates and of muted experts: numbers of ``routing.json`` and ``experts.json`` in, figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hydralora.results import Experts, GroupGates, Routing
from studio.figures import gate_titles as titles
from studio.figures.base import MARGIN, Figure, heatmap, layout_of, short_layer
from studio.figures.palette import ACCENT, BARS, MUTED, expert_colour, expert_name, expert_shape

MUTING = ("muting", "loss", "chance")
COLUMNS = 64  # layers drawn side by side; more are drawn as kinds of layers by blocks


def gate_heatmap(routing: Routing) -> Figure:
    """Mean routing weight, experts by layers (by blocks and kinds where there are many); a click opens the cell."""
    mean = np.array(routing.mean)  # (layers, experts)
    count = mean.shape[1]
    aid = (
        f"Mean routing weight over {routing.tokens:,} tokens of {routing.examples:,} examples; no colour is an "
        f"equal share (1/{count}), orange is above it, blue below."
    )
    hint = "Click a cell to read the texts behind it."
    if len(mean) > COLUMNS:
        values, columns, rows, ids = blocks_by_kind(routing.layers, mean)
    else:
        values, columns = mean.T.tolist(), [short_layer(name) for name in routing.layers]
        rows = [expert_name(e) for e in range(count)]
        ids = [[[layer, e] for layer in range(len(columns))] for e in range(count)]
    return heatmap(
        values,
        columns,
        rows,
        title=titles.by_layer(routing),
        aid=aid,
        name="gates-by-layer",
        middle=1 / count,
        ids=ids,
        hint=hint,
        terms=("gate",),
    )


def block_of(name: str) -> int:
    """Number of a layer's block, -1 where its name holds none."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1)


def kind_of(name: str) -> str:
    """``gate`` for ``model.layers.3.mlp.gate_proj``."""
    return name.rsplit(".", 1)[-1].removesuffix("_proj")


def blocks_by_kind(layers: Sequence[str], values: np.ndarray) -> tuple[list[list[float]], list[str], list[str], Any]:
    """``(layers, experts)`` as rows "kind E1" by columns of blocks: cells, both names, ``[layer, expert]`` ids."""
    kinds, blocks = list(dict.fromkeys(map(kind_of, layers))), sorted({block_of(name) for name in layers})
    count = values.shape[1]
    grid = np.full((len(kinds) * count, len(blocks)), np.nan)
    ids: list[list[Any]] = [[None] * len(blocks) for _ in range(len(grid))]
    for place, name in enumerate(layers):
        for e in range(count):
            row, column = kinds.index(kind_of(name)) * count + e, blocks.index(block_of(name))
            grid[row, column], ids[row][column] = values[place, e], [place, e]
    return (
        grid.tolist(),
        [f"L{b}" for b in blocks],
        [f"{kind} {expert_name(e)}" for kind in kinds for e in range(count)],
        ids,
    )


def group_heatmap(group: GroupGates, kind: str) -> Figure:
    """Mean routing weight, groups of examples by experts; a click opens the cell."""
    mean = np.array(group.mean)
    experts = [expert_name(e) for e in range(mean.shape[1])]
    ids = [[[g, e] for e in range(mean.shape[1])] for g in range(len(mean))]
    aid = f"Mean routing weight of each expert in each {kind}, over all layers. {group.sentence}"
    hint = "Click a cell to read its texts."
    middle = 1 / len(experts)
    return heatmap(
        mean.tolist(),
        experts,
        group.names,
        title=titles.by_group(group, kind),
        aid=aid,
        name=f"gates-by-{kind}",
        middle=middle,
        ids=ids,
        hint=hint,
        terms=("gate",),
    )


def gate_drift(steps: Sequence[int], gates: Sequence[dict[str, list[float]]]) -> Figure:
    """How far the mean gates of each layer have moved from those first recorded, layers by steps.

    The distance is ``1/2 sum_i |g_i(t) - g_i(first)|`` (total variation): 0 is the same shares, 1 none in common.
    """
    layers = list(gates[0])
    keep = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 60)).astype(int))
    first = {name: np.array(gates[0][name]) for name in layers}
    moved = [[0.5 * float(np.abs(np.array(gates[t][name]) - first[name]).sum()) for t in keep] for name in layers]
    aid = (
        "How far the mean routing weights of each layer have moved since they were first recorded: half the sum of "
        "absolute changes, 0 is the same shares. Each step has a batch of its own, so small movements are noise."
    )
    rows = [short_layer(name) for name in layers]
    top = max(0.05, max(map(max, moved)))
    noise = [_from_step_to_step([row[name] for row in gates]) for name in layers]
    title = titles.moved(layers, [row[-1] for row in moved], noise, steps)
    columns = [str(steps[t]) for t in keep]
    name, terms = "gate-drift", ("gate", "moved")
    return heatmap(moved, columns, rows, title=title, aid=aid, name=name, high=top, label="moved", terms=terms)


def _from_step_to_step(means: Sequence[Sequence[float]]) -> float:
    """Median distance between the mean gates ``(steps, experts)`` of neighbouring steps; 0 for one step."""
    moves = 0.5 * np.abs(np.diff(np.array(means), axis=0)).sum(1)
    return float(np.median(moves)) if moves.size else 0.0


def muted_groups(found: Experts, kind: str) -> Figure:
    """Change of the loss when an expert is muted, groups by experts."""
    first = sorted(found.cards[0].groups[kind], key=lambda row: (-1 if row.cluster is None else row.cluster, row.name))
    names = [row.name for row in first]
    rows = {card.expert: {row.name: row for row in card.groups[kind]} for card in found.cards}
    experts = [expert_name(e) for e in rows]
    values = [[rows[e][name].change for e in rows] for name in names]
    real = sum(rows[e][name].real for e in rows for name in names)
    aid = (
        f"Change of the held-out loss (nats per token) when an expert is muted, by {kind}: orange is loss that the "
        f"expert saves there. {real} of {len(names) * len(experts)} cells are beyond chance."
    )
    return heatmap(
        values,
        experts,
        names,
        title=titles.muted_groups(found, kind),
        aid=aid,
        name=f"muted-by-{kind}",
        middle=0.0,
        label="change",
        terms=MUTING,
    )


def muted_layers(found: Experts) -> Figure:
    """Change of the loss when one expert is muted in one layer, with 95 % intervals."""
    drawing = go.Figure(
        layout=layout_of(
            340, xaxis={"tickangle": -45, "automargin": True}, yaxis={"title": "change of the loss (nats)"}
        )
    )
    rows: list[list[Any]] = []
    for card in found.cards:
        order = sorted(card.layers, key=lambda row: found.layers.index(row.layer))
        names, e = [short_layer(row.layer) for row in order], card.expert
        drawing.add_scatter(
            x=names,
            y=[row.change for row in order],
            name=expert_name(e),
            mode="markers",
            error_y={"type": "data", "array": [row.half_width for row in order], "thickness": 1, "width": 3},
            marker={"color": expert_colour(e), "symbol": expert_shape(e), "size": 9, "line": {"width": 1}},
        )
        rows += [[expert_name(e), row.layer, row.change, row.half_width, row.p] for row in order]
    ordered = sorted({row[1] for row in rows}, key=found.layers.index)
    drawing.update_xaxes(categoryorder="array", categoryarray=[short_layer(name) for name in ordered])
    drawing.add_hline(y=0, line={"dash": "dot", "color": MUTED})
    aid = (
        "The layers in which each expert can move most (gate times norm), muted one at a time. Bars are 95 % intervals "
        "over examples; where one crosses zero, nothing was shown."
    )
    head = ["expert", "layer", "change", "95 % half-width", "p"]
    return Figure(drawing, aid, "muted-by-layer", head, rows, titles.muted_layers(found), terms=MUTING)


def agreement(group: GroupGates, layers: Sequence[str], kind: str) -> Figure:
    """Per layer, how much of the variation of the gates lies between groups, with the chance band."""
    names = [short_layer(name) for name in layers]
    drawing = go.Figure(
        layout=layout_of(300, xaxis={"tickangle": -45}, yaxis={"title": "R² between groups", "rangemode": "tozero"})
    )
    drawing.add_bar(x=names, y=group.r2, name="R² of the gates", marker={"color": BARS})
    drawing.add_scatter(
        x=names,
        y=group.nmi,
        name="NMI of the leading expert",
        mode="markers",
        marker={"symbol": "diamond", "color": ACCENT, "size": 8},
    )
    line = {"dash": "dash", "color": MUTED}
    drawing.add_hline(y=group.band, line=line, annotation_text="chance (99 %)", annotation_position="right")
    drawing.update_layout(margin={**MARGIN, "b": 90, "r": 96})
    aid = (
        f"How far the gates of each layer follow the {kind}s. Bars below the dashed line are no "
        f"more than shuffled {kind}s reach."
    )
    rows = [[n, r, m] for n, r, m in zip(names, group.r2, group.nmi, strict=True)]
    head, title = ["layer", "R2", "NMI"], titles.agreement(group, kind)
    return Figure(drawing, aid, f"agreement-with-{kind}", head, rows, title, terms=("r2", "nmi", "chance"))


def gate_distribution(routing: Routing, layer: int) -> Figure:
    """Histogram of per-token routing weights of each expert in one layer."""
    counts = np.array(routing.histogram)[layer]  # (experts, bins)
    edges = (np.arange(counts.shape[1]) + 0.5) / counts.shape[1]
    drawing = go.Figure(
        layout=layout_of(
            300,
            barmode="overlay",
            xaxis={"title": "routing weight of a token", "range": [0, 1]},
            yaxis={"title": "share of tokens"},
        )
    )
    for expert, row in enumerate(counts):
        drawing.add_scatter(
            x=edges.tolist(),
            y=row.tolist(),
            name=expert_name(expert),
            mode="lines+markers",
            line={"color": expert_colour(expert), "shape": "hvh"},
            marker={"symbol": expert_shape(expert), "size": 5},
        )
    name = short_layer(routing.layers[layer])
    aid = (
        f"{name}: how the routing weights of single tokens are spread. One narrow peak is a router "
        f"that gives every token the same."
    )
    rows = [[round(float(e), 3), *map(float, column)] for e, column in zip(edges, counts.T, strict=True)]
    head = ["gate", *[expert_name(e) for e in range(len(counts))]]
    title = titles.distribution(routing, layer)
    return Figure(drawing, aid, f"gate-distribution-{layer}", head, rows, title, terms=("gate",))


def effective_experts(routing: Routing) -> Figure:
    """Effective number of experts per layer."""
    names = [short_layer(name) for name in routing.layers]
    values = routing.effective_experts
    drawing = go.Figure(
        layout=layout_of(
            280, xaxis={"tickangle": -45}, yaxis={"title": "experts", "range": [0, routing.experts * 1.05]}
        )
    )
    drawing.add_bar(x=names, y=values, marker={"color": BARS}, name="effective number")
    drawing.add_hline(y=routing.experts, line={"dash": "dot", "color": MUTED})
    drawing.update_layout(margin={**MARGIN, "b": 90})
    aid = (
        f"exp(entropy) of the gates, mean over tokens: {routing.experts} is an equal mix of all, 1 is one expert alone."
    )
    rows = [list(row) for row in zip(names, values, strict=True)]
    head, terms = ["layer", "effective experts"], ("effective experts",)
    return Figure(drawing, aid, "effective-experts", head, rows, titles.effective(routing), terms=terms)


def token_classes(routing: Routing) -> Figure:
    """Mean routing weight, token classes by experts."""
    found = routing.token_classes
    names = [f"{n} ({c:,})" for n, c in zip(found.names, found.counts, strict=True)]
    experts = [expert_name(e) for e in range(routing.experts)]
    aid = "Mean routing weight of each expert for kinds of tokens (how many were seen), over all layers."
    title = titles.token_classes(found)
    name, middle = "gates-by-token-class", 1 / len(experts)
    return heatmap(found.mean, experts, names, title=title, aid=aid, name=name, middle=middle, terms=("gate",))
