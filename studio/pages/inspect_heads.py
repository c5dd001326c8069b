"""Inspect, Heads: how alike the heads are in every layer, at every stored step, and how they moved there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from jobs.store import Store
from studio import cards
from studio.pages.common import TICK, shows_errors
from studio.pages.inspect_parts import Found, Look, Part, picked, result_of, source, state_of
from studio.widgets import FigurePanel

COMPARISONS = [
    ("updates B A", "update_cosine"),
    ("heads B", "head_cosine"),
    ("column spaces", "overlap"),
    ("CKA", "cka"),
]
END = 100  # per cent of the training


def build(store: Store, chosen: Any, layer: Any) -> Part:
    """Draw the tab; a click on a cell opens that layer."""
    state = gr.HTML()
    with gr.Row():
        compare = gr.Radio(COMPARISONS, value="update_cosine", label="Compare", min_width=320)
        # Bounds are the same for every run: a tick that is under way may still carry the value of another.
        step = gr.Slider(
            0,
            END,
            END,
            step=1,
            label="Point of the training (%), nearest stored step",
            min_width=240,
            elem_id="head-step",
        )
    at_step = gr.HTML(elem_id="head-step-words")
    with gr.Row():
        with gr.Column(min_width=320):
            grid = FigurePanel(height=320, elem_id="head-grid")
        with gr.Column(min_width=320):
            heads = FigurePanel(height=320, elem_id="head-similarity")
    with gr.Row():
        with gr.Column(min_width=320):
            norms = FigurePanel(height=300)
        with gr.Column(min_width=320):
            drift = FigurePanel(height=320, elem_id="head-drift")

    def show(look: Look, found: Found) -> list[Any]:
        what, share = look.values
        weights = found["weights"]
        stored = result_of(look.store, weights, "weights.json")
        names = [row["name"] for row in stored["layers"]] if stored else []
        index = names.index(look.layer) if look.layer in names else 0
        steps = stored["steps"] if stored else [0]
        at = nearest(steps, float(END if share is None else share) / END)
        query = {"what": what, "step": steps[at]}
        return [state_of(weights, "Nothing to compare."), step_words(steps, at) if stored else "",
                source(weights, "layers", **query), source(weights, "heads", layer=index, **query),
                source(weights, "norms", **query), source(weights, "drift")]  # fmt: skip

    @shows_errors
    def open_layer(run_id: int | None, event: gr.EventData) -> Any:
        index = picked(event)
        stored = result_of(store, store.find_analysis(run_id or 0, "weights", {}), "weights.json")
        inside = stored is not None and type(index) is int and 0 <= index < len(stored["layers"])
        return stored["layers"][index]["name"] if stored and inside else gr.skip()

    grid.select(open_layer, chosen, layer, **TICK)
    live = [state, at_step, grid, heads, norms, drift]
    return Part([compare, step], live, lambda look: {"weights": (look.run.id, "weights", {})}, show)


def nearest(steps: list[int], share: float) -> int:
    """Place of the stored step nearest to a share of the whole training."""
    return min(range(len(steps)), key=lambda place: abs(steps[place] - share * steps[-1]))


def step_words(steps: list[int], at: int) -> cards.Markup:
    """Which of the stored steps is shown."""
    if len(steps) == 1:
        return cards.text("Shown: the finished adapter, the only stored state of this run.")
    what = "the untrained start" if steps[at] == 0 else f"step {steps[at]:,}"
    return cards.join(f"Shown: {what}, {at + 1} of {len(steps)} stored states of this run.")
