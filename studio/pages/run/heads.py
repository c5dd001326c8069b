"""Heads: how alike the heads are in every layer, at every stored step, and how they moved there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.results import Weights
from studio import cards
from studio.pages.common import ACT
from studio.pages.page import Changes
from studio.pages.run.tab import Found, Look, Tab, Wanted, picked, result_of, side_by_side, source, state_of

COMPARISONS = [
    ("updates B A", "update_cosine"),
    ("heads B", "head_cosine"),
    ("column spaces", "overlap"),
    ("CKA", "cka"),
]
END = 100  # per cent of the training


def nearest(steps: list[int], share: float) -> int:
    """Place of the stored step nearest to a share of the whole training."""
    return min(range(len(steps)), key=lambda place: abs(steps[place] - share * steps[-1]))


def step_words(steps: list[int], at: int) -> cards.Markup:
    """Which of the stored steps is shown."""
    if len(steps) == 1:
        return cards.text("Shown: the finished adapter, the only stored state of this run.")
    what = "the untrained start" if steps[at] == 0 else f"step {steps[at]:,}"
    return cards.join(f"Shown: {what}, {at + 1} of {len(steps)} stored states of this run.")


class HeadsTab(Tab):
    """Similarity of the heads by layer and step; a click on a cell opens that layer."""

    title = "Weights"
    place = 40

    def layout(self) -> None:
        self.verdict = gr.HTML()
        with gr.Row():
            self.compare = gr.Radio(COMPARISONS, value="update_cosine", label="Compare", min_width=320)
            # Bounds are the same for every run: an event that is under way may still carry the value of another.
            self.step = gr.Slider(
                0,
                END,
                END,
                step=1,
                label="Point of the training (%), nearest stored step",
                min_width=240,
                elem_id="head-step",
            )
        self.at_step = gr.HTML(elem_id="head-step-words")
        self.grid, self.heads = side_by_side((320, "head-grid"), (320, "head-similarity"))
        self.norms, self.drift = side_by_side((300, None), (320, "head-drift"))

    def connect(self) -> None:
        self.grid.select(self.open_layer, None, self.choosers.layer, **ACT)

    def picks(self) -> list[Any]:
        return [self.compare, self.step]

    def live(self) -> list[Any]:
        return [self.verdict, self.at_step, self.grid, self.heads, self.norms, self.drift]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return {"weights": (look.run.id, "weights", {})}

    def show(self, look: Look, found: Found) -> Changes:
        share, weights = look.values[self.step], found["weights"]
        stored = result_of(look.store, weights, Weights)
        names = [row.name for row in stored.layers] if stored else []
        steps = stored.steps if stored else [0]
        at = nearest(steps, float(END if share is None else share) / END)
        query = {"what": look.values[self.compare], "step": steps[at]}
        layer = names.index(look.layer) if look.layer in names else 0
        return {
            self.verdict: state_of(weights, "Nothing to compare."),
            self.at_step: step_words(steps, at) if stored else "",
            self.grid: source(weights, "layers", **query),
            self.heads: source(weights, "heads", layer=layer, **query),
            self.norms: source(weights, "norms", **query),
            self.drift: source(weights, "drift"),
        }

    def open_layer(self, request: gr.Request, event: gr.EventData) -> Changes:
        """Choose the layer of the cell that was clicked."""
        index = picked(event)
        found = self.store.analyses.find(self.run_of(request).id, "weights", {})
        stored = result_of(self.store, found, Weights)
        if stored is None or type(index) is not int or not 0 <= index < len(stored.layers):
            return {}
        return {self.choosers.layer: stored.layers[index].name}
