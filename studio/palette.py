"""Colours, shapes and names of experts and of clusters, in one place.

Experts and clusters are different things: experts are E1, E2, ... with the Petroff palette
(eight colours chosen to stay apart under colour-blindness, https://arxiv.org/abs/2107.02270) and
filled shapes; clusters are C1, C2, ... with Tol's muted palette
(https://personal.sron.nl/~pault/) and open shapes. An index always has the same style.
"""

from __future__ import annotations

EXPERT_COLOURS = ("#1845fb", "#ff5e02", "#c91f16", "#c849a9", "#adad7d", "#86c8dd", "#578dff", "#656364")
CLUSTER_COLOURS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499",
)  # fmt: skip
EXPERT_SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon")
CLUSTER_SHAPES = (
    "circle-open", "square-open", "diamond-open", "cross-open", "triangle-up-open", "x-open",
    "star-open", "pentagon-open", "hexagram-open",
)  # fmt: skip
ACCENT = "#1845fb"
ACCENT_2 = "#ff5e02"
MUTED = "#7a8699"


def expert_colour(index: int) -> str:
    """Colour of expert ``index`` (from 0)."""
    return EXPERT_COLOURS[index % len(EXPERT_COLOURS)]


def expert_name(index: int) -> str:
    """``E1`` for expert 0."""
    return f"E{index + 1}"


def expert_shape(index: int) -> str:
    """Plotly marker of expert ``index``; where colours repeat, the shape is another."""
    return EXPERT_SHAPES[(index + index // len(EXPERT_COLOURS)) % len(EXPERT_SHAPES)]


def cluster_colour(index: int) -> str:
    """Colour of cluster ``index`` (from 0)."""
    return CLUSTER_COLOURS[index % len(CLUSTER_COLOURS)]


def cluster_name(index: int) -> str:
    """``C1`` for cluster 0."""
    return f"C{index + 1}"


def cluster_shape(index: int) -> str:
    """Plotly marker of cluster ``index``; where colours repeat, the shape is another."""
    return CLUSTER_SHAPES[(index + index // len(CLUSTER_COLOURS)) % len(CLUSTER_SHAPES)]
