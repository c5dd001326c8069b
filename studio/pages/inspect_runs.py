"""Inspect, Runs: several adapters of one base together, and the breakdown of a corpus into one LoRA per cluster."""

from __future__ import annotations

from typing import Any

import gradio as gr

from jobs.breakdown import describe_breakdown, find_breakdown, start_breakdown
from jobs.records import Run
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import EVENT, shows_errors
from studio.pages.inspect_map import LAYOUTS, MATRICES, map_params
from studio.pages.inspect_parts import Found, Look, Part, source, state_of
from studio.widgets import FigurePanel

PARTS = [("what A reads", "A"), ("what the heads write", "B"), ("updates B A", "BA")]
OTHERS, BREAKDOWN, OWN = "others", "breakdown", "own seeds"
MODES = [
    ("this run and those chosen", OTHERS),
    ("one LoRA per cluster, one seed", BREAKDOWN),
    ("one LoRA per cluster, own seeds", OWN),
]
WHY = (
    "Raw heads of two runs are never compared: (B, A) and (B Q, Q⁻¹ A) are the same adapter for any invertible Q, so "
    "equal adapters can look unlike and unlike ones alike. What A reads, what the heads write and the product B A do "
    "not depend on Q."
)
MOST = 12  # runs compared together


def comparable(store: Store, run: Run) -> list[Run]:
    """Finished runs on the same base, other than this one."""
    return [
        r for r in store.runs() if r.summary is not None and r.config["base"] == run.config["base"] and r.id != run.id
    ]


def chosen_runs(look: Look) -> list[int]:
    """The ids to compare, first the one that owns the analysis; fewer than two are none."""
    mode, others = look.values[0], look.values[1]
    if mode == OTHERS:
        known = {run.id for run in comparable(look.store, look.run)}
        ids = [look.run.id, *[i for i in others or [] if i in known]][:MOST]
    else:
        found = describe_breakdown(find_breakdown(look.store, look.run, own_seeds=mode == OWN))
        ids = found["runs"] if found["done"] else []
    return ids if len(ids) > 1 else []


def breakdown_table(runs: list[Run]) -> Markup:
    """The runs of a breakdown with their states."""
    if not runs:
        return cards.note(
            "info", "Not trained yet.", "One LoRA for each cluster of this run's corpus, with its settings."
        )
    rows: list[list[object]] = []
    for run in runs:
        loss = run.summary["held_out_loss"] if run.summary else None
        rows.append(
            [
                cards.link(f"/run?run={run.id}", f"{run.name} (run {run.id})"),
                cards.status(run.status),
                cards.number(loss),
            ]
        )
    return cards.table(["Run", "State", "Held-out loss"], rows, caption="One LoRA per cluster", numbers=[2])


def build(store: Store, chosen: Any) -> Part:
    """Draw the tab."""
    gr.HTML(cards.note("info", "What can be compared across runs", WHY))
    with gr.Row():
        mode = gr.Radio(MODES, value=OTHERS, label="Compare", min_width=320, elem_id="runs-mode")
        others = gr.Dropdown(
            [], multiselect=True, label="Other finished runs on the same base", min_width=320, elem_id="other-runs"
        )
    start = gr.Button("Train one LoRA per cluster", visible=False, elem_id="start-breakdown")
    progress, state = gr.HTML(), gr.HTML()
    with gr.Row():
        part = gr.Radio(PARTS, value="BA", label="Alike in", min_width=320)
        which = gr.Radio(MATRICES, value="B", label="Map of", min_width=200)
        layout = gr.Radio(LAYOUTS, value="pca", label="Layout", min_width=240)
    with gr.Row():
        with gr.Column(min_width=320):
            together = FigurePanel(height=320, elem_id="runs-together")
        with gr.Column(min_width=320):
            by_layer = FigurePanel(height=320, elem_id="runs-by-layer")
    map_state = gr.HTML()
    plane = FigurePanel(height=440, elem_id="runs-map")

    def wants(look: Look) -> dict[str, Any]:
        ids = chosen_runs(look)
        if not ids:
            return {}
        _, _, _, which_, layout_ = look.values
        rest = {"other_runs": ids[1:]}
        return {
            "compare": (ids[0], "compare", rest),
            "together": (ids[0], "map", map_params(which_, layout_, "subspace", 0) | rest),
        }

    def show(look: Look, found: Found) -> list[Any]:
        mode_, others_, part_, _, _ = look.values
        compare, together_ = found.get("compare"), found.get("together")
        names = [(f"{run.name} (run {run.id})", run.id) for run in comparable(look.store, look.run)]
        kept = [i for i in others_ or [] if i in dict(names[::-1]).values()]
        runs = find_breakdown(look.store, look.run, own_seeds=mode_ == OWN) if mode_ != OTHERS else []
        missing = (
            "Choose another run above." if mode_ == OTHERS else "The comparison follows when all of them are done."
        )
        unfinished = (
            mode_ != OTHERS
            and not describe_breakdown(runs)["done"]
            and not any(r.job and not r.job.is_finished for r in runs)
        )
        return [gr.update(choices=names, value=kept, visible=mode_ == OTHERS), gr.update(visible=unfinished),
                breakdown_table(runs) if mode_ != OTHERS else "", state_of(compare, missing),
                source(compare, "runs", part=part_), source(compare, "by_layer"),
                state_of(together_, "Nothing to place.") if compare else "", source(together_, "map")]  # fmt: skip

    def state_of_runs(look: Look) -> Any:
        own = look.values[0] == OWN
        return [(run.id, run.status) for run in find_breakdown(look.store, look.run, own_seeds=own)]

    @shows_errors
    def begin(run_id: int | None, mode_: str) -> None:
        if run_id is not None and mode_ != OTHERS:
            start_breakdown(store, run_id, own_seeds=mode_ == OWN)
            gr.Info("One run for each cluster is queued.")

    start.click(begin, [chosen, mode], None, **EVENT)
    live = [others, start, progress, state, together, by_layer, map_state, plane]
    return Part([mode, others, part, which, layout], live, wants, show, state_of_runs)
