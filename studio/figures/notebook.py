"""The pictures of an adapter for a notebook: a folder in, plotly figures out.

>>> from studio.notebook import inspect_adapter
>>> look = inspect_adapter("outputs/adapter")
>>> print(look.sentence)
>>> look.figures["similarity"].show()

Reads any adapter with A and B matrices saved as safetensors: HydraLoRA and its siblings, PEFT's LoRA and
AdaLoRA. Nothing of the studio needs to run; the same functions draw the page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from hydralora.errors import AdapterError
from hydralora.results import Heads, Result
from studio.figures.base import Figure
from studio.figures.heads import (
    MEASURES,
    comparison,
    comparison_by_layer,
    head_similarity,
    matrix_map,
    norms,
    similarity_by_layer,
    similarity_of_kind,
)


@dataclass
class Inspection:
    """What was found in an adapter.

    Attributes:
        sentence: The honest summary: structure, or "No structure beyond chance".
        figures: Plotly figures by name.
        titles: For each figure what it shows, as one line.
        aids: For each figure one sentence that says how to read it.
        results: Everything measured, by name: ``weights``, ``map_A``, ``map_B``, or ``compare``.
    """

    sentence: str
    figures: dict[str, go.Figure] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    aids: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, Any]:
        """The results as plain lists and numbers, as JSON holds them."""
        return {name: result.dump() for name, result in self.results.items()}

    def add(self, name: str, figure: Figure) -> None:
        """Keep a figure with its title and its reading aid."""
        self.figures[name], self.titles[name], self.aids[name] = figure.drawn(), figure.title, figure.aid


def inspect_adapter(
    adapter: str | Path, *, layer: str | None = None, layout: str = "pca", seed: int = 0, maps: bool = True
) -> Inspection:
    """Measure and draw the A and B matrices of one adapter.

    Figures: ``similarity`` (layers by kinds), ``heads_<measure>`` of one layer for each of ``MEASURES``, ``norms``,
    and, with ``maps``, ``map_A``, ``map_B``, ``matrices_A`` and ``matrices_B``.

    Args:
        adapter: Folder with ``adapter_model.safetensors`` and ``adapter_config.json``.
        layer: Layer whose heads are compared one by one, by the end of its name; the first where left out.
        layout: ``pca``, ``tsne`` or ``umap``.
        seed: Seed of the layout and of the permutation test.
        maps: Also place the matrices on a plane, which takes longer than all the rest.

    Raises:
        AdapterError: When the folder is no such adapter, or has no such layer.
    """
    from hydralora.analysis.weights import compare_adapter, heads_of

    folder = Path(adapter)
    found = heads_of(compare_adapter(folder))
    layers = found.layers
    place = _place_of(layer, [row.name for row in layers])
    look = Inspection(found.sentence, results={"weights": found})
    look.add("similarity", similarity_by_layer(layers))
    for measure in MEASURES:
        look.add(f"heads_{measure}", head_similarity(layers, place, measure))
    look.add("norms", norms(layers))
    if maps:
        _add_maps(look, folder, found, layers[place].kind, layout, seed)
    return look


def _place_of(layer: str | None, names: list[str]) -> int:
    if layer is None:
        return 0
    for place, name in enumerate(names):
        if name == layer or name.endswith(f".{layer}"):
            return place
    raise AdapterError(f"No adapted layer is called '{layer}'. The first ones are: {', '.join(names[:4])}.")


def _add_maps(look: Inspection, folder: Path, heads: Heads, kind: str, layout: str, seed: int) -> None:
    """Maps of A and of B, each where there are at least four matrices to place."""
    from hydralora.analysis.maps import describe_map, matrix_distances

    counts = {"A": len(heads.layers), "B": sum(len(row.update_norm) for row in heads.layers)}
    for which in [which for which, count in counts.items() if count >= 4]:
        points, distances = matrix_distances({folder.name: folder}, which)
        found = describe_map(points, distances, which, layout, seed)
        look.results[f"map_{which}"] = found
        look.add(f"map_{which}", matrix_map(found))
        look.add(f"matrices_{which}", similarity_of_kind(found, distances, kind))


def compare_runs(adapters: dict[str, str | Path]) -> Inspection:
    """Compare several adapters of one base by what they read, write and change; never by raw B.

    Figures: ``A``, ``B``, ``BA`` (runs by runs) and ``layers``.

    Args:
        adapters: Folders by the names they shall have in the figures, at least two.

    Raises:
        AdapterError: When they share no layer, or one cannot be read.
    """
    from hydralora.analysis.comparison import compare_adapters

    found = compare_adapters({name: Path(folder) for name, folder in adapters.items()})
    look = Inspection(found.sentence, results={"compare": found})
    for part in found.parts:
        look.add(part, comparison(found, part))
    look.add("layers", comparison_by_layer(found))
    return look
