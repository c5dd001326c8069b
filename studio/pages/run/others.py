"""Runs: several adapters of one base together, and the breakdown of a corpus into one LoRA per cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from jobs.breakdown import describe_breakdown, find_breakdown, start_breakdown
from jobs.store.records import Run
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import chosen_ids
from studio.pages.page import Changes
from studio.pages.run.map import LAYOUTS, MATRICES, map_params
from studio.pages.run.tab import Found, Look, Tab, Wanted, side_by_side, source, state_of
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
    return [r for r in store.runs.all() if r.summary is not None and r.base == run.base and r.id != run.id]


def chosen_runs(store: Store, run: Run, mode: Any, others: Any) -> list[int]:
    """The ids to compare, first the one that owns the analysis; fewer than two are none."""
    if mode == OTHERS:
        known = {other.id for other in comparable(store, run)}
        ids = [run.id, *[i for i in chosen_ids(others) if i in known]][:MOST]
    else:
        found = describe_breakdown(find_breakdown(store, run, own_seeds=mode == OWN))
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
        loss = run.summary.held_out_loss if run.summary else None
        rows.append(
            [
                cards.link(f"/run?run={run.id}", f"{run.name} (run {run.id})"),
                cards.status(run.status),
                cards.number(loss),
            ]
        )
    return cards.table(["Run", "State", "Held-out loss"], rows, caption="One LoRA per cluster", numbers=[2])


class OthersTab(Tab):
    """What several adapters read, write and change, beside each other and on one plane."""

    title = "Weights"
    place = 42

    def layout(self) -> None:
        with gr.Accordion("Beside other runs", open=False, elem_id="beside-runs"):
            gr.HTML(cards.note("info", "What can be compared across runs", WHY))
            with gr.Row():
                self.mode = gr.Radio(MODES, value=OTHERS, label="Compare", min_width=320, elem_id="runs-mode")
                self.others = gr.Dropdown(
                    [],
                    multiselect=True,
                    label="Other finished runs on the same base",
                    min_width=320,
                    elem_id="other-runs",
                )
            self.start = gr.Button("Train one LoRA per cluster", visible=False, elem_id="start-breakdown")
            self.progress, self.verdict = gr.HTML(), gr.HTML()
            with gr.Row():
                self.part = gr.Radio(PARTS, value="BA", label="Alike in", min_width=320)
                self.which = gr.Radio(MATRICES, value="B", label="Map of", min_width=200)
                self.arrange = gr.Radio(LAYOUTS, value="pca", label="Layout", min_width=240)
            self.together, self.by_layer = side_by_side((320, "runs-together"), (320, "runs-by-layer"))
            self.map_verdict = gr.HTML()
            self.plane = FigurePanel(height=440, elem_id="runs-map")

    def connect(self) -> None:
        self.on_click(self.start, self.begin, self.mode, None)

    def picks(self) -> list[Any]:
        return [self.mode, self.others, self.part, self.which, self.arrange]

    def topics(self, values: Mapping[Any, Any]) -> list[str]:
        return ["runs"] if values[self.mode] != OTHERS else []

    def live(self) -> list[Any]:
        shown = [self.others, self.start, self.progress, self.verdict, self.together, self.by_layer]
        return [*shown, self.map_verdict, self.plane]

    def wants(self, look: Look) -> dict[str, Wanted]:
        ids = chosen_runs(look.store, look.run, look.values[self.mode], look.values[self.others])
        if not ids:
            return {}
        rest = {"other_runs": ids[1:]}
        params = map_params(look.values[self.which], look.values[self.arrange], "subspace", 0)
        return {"compare": (ids[0], "compare", rest), "together": (ids[0], "map", params | rest)}

    def show(self, look: Look, found: Found) -> Changes:
        compare, together = found.get("compare"), found.get("together")
        return {
            **self._show_choice(look),
            self.verdict: state_of(compare, self._missing(look)),
            self.together: source(compare, "runs", part=look.values[self.part]),
            self.by_layer: source(compare, "by_layer"),
            self.map_verdict: state_of(together, "Nothing to place.") if compare else "",
            self.plane: source(together, "map"),
        }

    def _show_choice(self, look: Look) -> Changes:
        """The runs that can be chosen, or how far the breakdown is and whether it can be started."""
        if look.values[self.mode] == OTHERS:
            names = [(f"{run.name} (run {run.id})", run.id) for run in comparable(look.store, look.run)]
            kept = [i for i in chosen_ids(look.values[self.others]) if i in {run_id for _, run_id in names}]
            return {
                self.others: gr.update(choices=names, value=kept, visible=True),
                self.start: gr.update(visible=False),
                self.progress: "",
            }
        runs = self._breakdown(look)
        at_work = any(run.job and not run.job.is_finished for run in runs)
        return {
            self.others: gr.update(visible=False),
            self.start: gr.update(visible=not describe_breakdown(runs)["done"] and not at_work),
            self.progress: breakdown_table(runs),
        }

    def _missing(self, look: Look) -> str:
        chosen = look.values[self.mode] == OTHERS
        return "Choose another run above." if chosen else "The comparison follows when all of them are done."

    def _breakdown(self, look: Look) -> list[Run]:
        return find_breakdown(look.store, look.run, own_seeds=look.values[self.mode] == OWN)

    def state(self, look: Look) -> Any:
        return [(run.id, run.status) for run in self._breakdown(look)]

    def begin(self, request: gr.Request, mode: str) -> None:
        """Queue one LoRA for each cluster."""
        if mode in (BREAKDOWN, OWN):
            start_breakdown(self.store, self.run_of(request).id, own_seeds=mode == OWN)
            gr.Info("One run for each cluster is queued.")
