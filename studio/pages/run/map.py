"""Map: the A or B matrices of all layers, first as a heatmap of similarity, then on a plane."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.bounds import Seed, checked
from hydralora.errors import UserError
from studio import cards
from studio.pages.page import Changes
from studio.pages.run.tab import Found, Look, Tab, Wanted, source, state_of
from studio.widgets import FigurePanel

LAYOUTS = [("PCA", "pca"), ("t-SNE", "tsne"), ("UMAP", "umap")]
MATRICES = [("heads B", "B"), ("matrices A", "A")]
SIMILARITIES = [("raw numbers (cosine)", "cosine"), ("spaces (overlap)", "subspace")]


def map_params(which: Any, layout: Any, similarity: Any, seed: Any, start: Any = False) -> dict[str, Any]:
    """Checked parameters of a map.

    Raises:
        UserError: When one of them does not exist.
    """
    chosen = ((which, MATRICES), (layout, LAYOUTS), (similarity, SIMILARITIES))
    if any(value not in dict(options).values() for value, options in chosen):
        raise UserError("That map does not exist.")
    params = {"which": which, "layout": layout, "seed": checked(Seed, seed or 0, "seed"), "similarity": similarity}
    return {**params, "start": True, "similarity": "subspace"} if start else params


class MapTab(Tab):
    """Similarity of all matrices, and their places on a plane."""

    title = "Weights"
    place = 41

    def layout(self) -> None:
        gr.HTML(cards.section("Where the matrices lie", "similarity of all of them, then a plane"))
        with gr.Row():
            self.which = gr.Radio(MATRICES, value="B", label="Matrices", min_width=200)
            self.similarity = gr.Radio(SIMILARITIES, value="cosine", label="Alike in", min_width=260)
            self.arrange = gr.Radio(LAYOUTS, value="pca", label="Layout", min_width=240, elem_id="map-layout")
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=10_000, min_width=90, scale=0)
        self.start = gr.Checkbox(False, label="Beside the untrained start (compares spaces)", elem_id="map-start")
        self.verdict = gr.HTML()
        self.matrix = FigurePanel(height=440, elem_id="matrix-similarity")
        self.plane = FigurePanel(height=440, elem_id="matrix-map")
        self.beside = gr.HTML(elem_id="weights-beside")

    def picks(self) -> list[Any]:
        return [self.which, self.arrange, self.similarity, self.seed, self.start]

    def live(self) -> list[Any]:
        return [self.verdict, self.matrix, self.plane, self.beside]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return {"map": (look.run.id, "map", map_params(*(look.values[pick] for pick in self.picks())))}

    def show(self, look: Look, found: Found) -> Changes:
        kind = look.layer.rsplit(".", 1)[-1]
        return {
            self.verdict: state_of(found["map"], "Nothing to place."),
            self.matrix: source(found["map"], "similarity", kind=kind),
            self.plane: source(found["map"], "map"),
            self.beside: cards.paragraph(
                cards.link(
                    f"/compare?runs={look.run.id}&tab=weights",
                    "Compare its weights with those of other runs, or with one LoRA per cluster",
                )
            ),
        }
