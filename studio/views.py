"""Which figure a stored analysis gives for the name of a view; the endpoint and the notebook call read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hydralora.errors import UserError
from studio import figures_gates as gates
from studio import figures_heads as heads
from studio.figures import Figure

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


def read_json(path: Path) -> dict[str, Any]:
    """A stored result."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def analysis_figure(folder: Path, kind: str, view: str, query: Query) -> Figure:
    """The figure of one view of an analysis.

    Raises:
        UserError: When there is no such view, step or measure.
        NothingToShow: When this analysis has nothing for it.
    """
    views = _VIEWS[kind](folder, query) if kind in _VIEWS else {}
    if view not in views:
        raise UserError(f"There is no view called '{view}' here.")
    return views[view]()


def _weights(folder: Path, query: Query) -> Views:
    if query.what not in heads.MEASURES:
        raise UserError(f"There is no measure called '{query.what}' here.")
    stored = read_json(folder / "weights.json")
    layers = stored["layers"]
    if query.step >= 0 and query.step in stored["steps"]:
        layers = read_json(folder / f"weights-{query.step}.json")["layers"]
    place = min(max(query.layer, 0), len(layers) - 1)
    return {
        "layers": lambda: heads.similarity_by_layer(layers, query.what), "norms": lambda: heads.norms(layers),
        "heads": lambda: heads.head_similarity(layers, place, query.what),
        "drift": lambda: heads.drift(stored["drift"], stored["drift_sentence"]),
    }  # fmt: skip


def _map(folder: Path, query: Query) -> Views:
    found = read_json(folder / "map.json")

    def likeness() -> Figure:
        kinds = [point["kind"] for point in found["points"]]
        kind = query.kind if query.kind in kinds else kinds[0]
        return heads.likeness_of_kind(found, np.load(folder / "distances.npy", allow_pickle=False), kind)

    return {"map": lambda: heads.matrix_map(found), "likeness": likeness}


def _routing(folder: Path, query: Query) -> Views:
    found = read_json(folder / "routing.json")
    place = min(max(query.layer, 0), len(found["layers"]) - 1)

    def group() -> dict[str, Any]:
        known = found["groups"].get(query.group, {})
        if "mean" not in known:
            reason = "Cluster the corpus first." if query.group == "cluster" else "This corpus has no label column."
            raise NothingToShow(f"There is nothing to compare the gates with. {known.get('sentence', reason)}")
        return dict(known)

    return {
        "layers": lambda: gates.gate_heatmap(found), "effective": lambda: gates.effective_experts(found),
        "distribution": lambda: gates.gate_distribution(found, place), "classes": lambda: gates.token_classes(found),
        "groups": lambda: gates.group_heatmap(group(), query.group),
        "agreement": lambda: gates.agreement(group(), found["layers"], query.group),
    }  # fmt: skip


def _experts(folder: Path, query: Query) -> Views:
    found = read_json(folder / "experts.json")

    def groups() -> Figure:
        if query.group not in found["cards"][0]["groups"]:
            reason = "Cluster the corpus first." if query.group == "cluster" else "This corpus has no label column."
            raise NothingToShow(f"There is nothing to tell experts apart by. {reason}")
        return gates.muted_groups(found, query.group)

    return {"groups": groups, "layers": lambda: gates.muted_layers(found)}


def _compare(folder: Path, query: Query) -> Views:
    if query.part not in heads.PARTS:
        raise UserError(f"There is no part called '{query.part}' here.")
    found = read_json(folder / "compare.json")
    return {"runs": lambda: heads.comparison(found, query.part), "by_layer": lambda: heads.comparison_by_layer(found)}


_VIEWS: dict[str, Callable[[Path, Query], Views]] = {
    "weights": _weights, "map": _map, "routing": _routing, "experts": _experts, "compare": _compare,
}  # fmt: skip
