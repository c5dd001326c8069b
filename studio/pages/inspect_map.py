"""Inspect, Map: the A or B matrices of all layers, first as a heatmap of likeness, then on a plane."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from studio.pages.inspect_parts import Found, Look, Part, source, state_of
from studio.widgets import FigurePanel

LAYOUTS = [("PCA", "pca"), ("t-SNE", "tsne"), ("UMAP", "umap")]
MATRICES = [("heads B", "B"), ("matrices A", "A")]
LIKENESSES = [("raw numbers (cosine)", "cosine"), ("spaces (overlap)", "subspace")]


def map_params(which: Any, layout: Any, likeness: Any, seed: Any, start: Any = False) -> dict[str, Any]:
    """Checked parameters of a map.

    Raises:
        UserError: When one of them does not exist.
    """
    chosen = ((which, MATRICES), (layout, LAYOUTS), (likeness, LIKENESSES))
    if any(value not in dict(options).values() for value, options in chosen):
        raise UserError("That map does not exist.")
    params = {"which": which, "layout": layout, "seed": int(seed or 0), "likeness": likeness}
    return {**params, "start": True, "likeness": "subspace"} if start else params


def build() -> Part:
    """Draw the tab."""
    with gr.Row():
        which = gr.Radio(MATRICES, value="B", label="Matrices", min_width=200)
        likeness = gr.Radio(LIKENESSES, value="cosine", label="Alike in", min_width=260)
        layout = gr.Radio(LAYOUTS, value="pca", label="Layout", min_width=240, elem_id="map-layout")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=10_000, min_width=90, scale=0)
    start = gr.Checkbox(False, label="Beside the untrained start (compares spaces)", elem_id="map-start")
    state = gr.HTML()
    matrix = FigurePanel(height=440, elem_id="matrix-likeness")
    plane = FigurePanel(height=440, elem_id="matrix-map")

    def wants(look: Look) -> dict[str, Any]:
        return {"map": (look.run.id, "map", map_params(*look.values))}

    def show(look: Look, found: Found) -> list[Any]:
        kind = look.layer.rsplit(".", 1)[-1]
        return [state_of(found["map"], "Nothing to place."), source(found["map"], "likeness", kind=kind),
                source(found["map"], "map")]  # fmt: skip

    return Part([which, layout, likeness, seed, start], [state, matrix, plane], wants, show)
