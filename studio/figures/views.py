"""Which figure a stored analysis gives for the name of a view; the endpoint and the notebook call read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydralora.errors import UserError
from hydralora.results import Comparison, Experts, GroupGates, Heads, MatrixMap, Routing, Weights
from hydralora.results.maps import DISTANCES
from studio.figures import gates, heads
from studio.figures.base import Figure

Views = dict[str, Callable[[], Figure]]


@dataclass(frozen=True)
class Query:
    """What a view may be asked: place of a layer, measure, grouping, step, part of a comparison, kind of layer."""

    layer: int = 0
    what: str = "update_cosine"
    group: str = "cluster"
    step: int = -1
    part: str = "BA"
    kind: str = ""


class NothingToShow(Exception):
    """There is no figure for a good reason, which the text says."""


def analysis_figure(folder: Path, kind: str, view: str, query: Query) -> Figure:
    """The figure of one view of an analysis.

    Raises:
        UserError: When there is no such view, step or measure.
        NothingToShow: When this analysis has nothing for it.
    """
    views = VIEWS[kind](folder, query) if kind in VIEWS else {}
    if view not in views:
        raise UserError(f"There is no view called '{view}' here.")
    return views[view]()


def _weights(folder: Path, query: Query) -> Views:
    if query.what not in heads.MEASURES:
        raise UserError(f"There is no measure called '{query.what}' here.")
    stored = Weights.read(folder)
    layers = stored.layers
    if query.step in stored.steps:
        layers = Heads.read(folder, step=query.step).layers
    place = min(max(query.layer, 0), len(layers) - 1)
    return {
        "layers": lambda: heads.similarity_by_layer(layers, query.what),
        "norms": lambda: heads.norms(layers),
        "heads": lambda: heads.head_similarity(layers, place, query.what),
        "drift": lambda: heads.drift(stored.drift, stored.drift_sentence),
    }


def _map(folder: Path, query: Query) -> Views:
    found = MatrixMap.read(folder)

    def similarity() -> Figure:
        kinds = [point.kind for point in found.points]
        kind = query.kind if query.kind in kinds else kinds[0]
        return heads.similarity_of_kind(found, np.load(folder / DISTANCES, allow_pickle=False), kind)

    return {"map": lambda: heads.matrix_map(found), "similarity": similarity}


def _routing(folder: Path, query: Query) -> Views:
    found = Routing.read(folder)
    place = min(max(query.layer, 0), len(found.layers) - 1)

    def group() -> GroupGates:
        known = found.groups.get(query.group)
        if known is None or not known.is_measured:
            reason = known.sentence if known else _why_no_group(query.group)
            raise NothingToShow(f"There is nothing to compare the gates with. {reason}")
        return known

    return {
        "layers": lambda: gates.gate_heatmap(found),
        "effective": lambda: gates.effective_experts(found),
        "distribution": lambda: gates.gate_distribution(found, place),
        "classes": lambda: gates.token_classes(found),
        "groups": lambda: gates.group_heatmap(group(), query.group),
        "agreement": lambda: gates.agreement(group(), found.layers, query.group),
    }


def _why_no_group(kind: str) -> str:
    return "Cluster the corpus first." if kind == "cluster" else "This corpus has no label column."


def _experts(folder: Path, query: Query) -> Views:
    found = Experts.read(folder)

    def groups() -> Figure:
        if query.group not in found.cards[0].groups:
            raise NothingToShow(f"There is nothing to tell experts apart by. {_why_no_group(query.group)}")
        return gates.muted_groups(found, query.group)

    return {"groups": groups, "layers": lambda: gates.muted_layers(found)}


def _compare(folder: Path, query: Query) -> Views:
    if query.part not in heads.PARTS:
        raise UserError(f"There is no part called '{query.part}' here.")
    found = Comparison.read(folder)
    return {"runs": lambda: heads.comparison(found, query.part), "by_layer": lambda: heads.comparison_by_layer(found)}


# By kind of analysis; a tab that brings figures of its own adds them here.
VIEWS: dict[str, Callable[[Path, Query], Views]] = {
    "weights": _weights,
    "map": _map,
    "routing": _routing,
    "experts": _experts,
    "compare": _compare,
}
