"""Training: how it went, live: curves, gates, numbers, log, history, settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import gradio as gr

from jobs.store.logs import size
from jobs.store.records import Step
from studio import cards
from studio.figures.curves import CURVES
from studio.pages.controls import choice_row, look_controls, look_query, read_look
from studio.pages.page import Changes
from studio.pages.run.tab import Found, Look, Tab
from studio.pages.run.views import gates_now, history_table, planned, run_cards, settings_table, time_taken
from studio.widgets import Addressed, FigurePanel, LogPanel, figure

REDRAWS = 100  # of the charts during a run
WAITING = "The first numbers appear with the first step."
FIRST = ("loss", "gates")  # the figures that are not folded


class TrainingTab(Tab):
    """The curves of the run's training and everything that was written down."""

    title = "Training"
    place = 60
    needs_adapter = False

    def layout(self) -> None:
        self.facts = gr.HTML()
        with gr.Column() as self.curves:
            gr.HTML(cards.what_is_this("loss", "held out", "trained weights"))
            self.options = Addressed(elem_id="training-options")
            self._charts()
        self.links = gr.HTML()
        with gr.Accordion("History", open=False):
            self.history = gr.HTML()
        with gr.Accordion("Log", open=False):
            self.log = LogPanel(elem_id="run-log")
        with gr.Accordion("Settings", open=False):
            self.settings = gr.HTML()

    def _charts(self) -> None:
        self.charts: dict[str, FigurePanel] = {}
        with gr.Row():
            for view in FIRST:
                with gr.Column(min_width=320):
                    self.charts[view] = FigurePanel(height=300, elem_id=f"chart-{view}")
        others = [view for view in CURVES if view not in FIRST]
        words = ", ".join(CURVES[view].title for view in others[:-1]).capitalize()
        with gr.Accordion(f"{words} and {CURVES[others[-1]].title.lower()}", open=False), gr.Row():
            for view in others:
                with gr.Column(min_width=320):
                    self.charts[view] = FigurePanel(height=260)

    def connect(self) -> None:
        # A choice that follows another at once is drawn too.
        self.options.input(**self.drawing)

    def live(self) -> list[Any]:
        folds = [self.history, self.log, self.settings]
        return [self.facts, self.curves, self.options, self.links, *folds, *self.charts.values()]

    def state(self, look: Look) -> Any:
        return read_look(look.query)

    def show(self, look: Look, found: Found) -> Changes:
        run, store = look.run, look.store
        newest, training_set = store.runs.newest(run.id), store.runs.training_set(run.id)
        took = time_taken(store, run, run.job) if run.summary and run.job and not run.is_imported else ""
        links = [cards.link(f"/new-run?again={run.id}", "Run again with changes")]
        links += [cards.link(f"/ui/runs/{run.id}/metrics.csv", "Metrics as CSV")]
        return {
            self.facts: cards.join(run_cards(run, newest, training_set), gates_now(newest), cards.paragraph(took)),
            self.curves: gr.update(visible=not run.is_imported),
            self.options: choice_row(*look_controls(read_look(look.query))),
            self.links: "" if run.is_imported else cards.links(links),
            self.history: history_table(store.runs.events(run.id)),
            self.log: {"job": run.job.id, "size": size(store.home, run.job)} if run.job else None,
            self.settings: settings_table(run, training_set),
            **self._draw_charts(look, newest, planned(run, training_set)),
        }

    def _draw_charts(self, look: Look, newest: Step | None, steps: int) -> Changes:
        """The curves; drawn anew every hundredth of the run and at its end: thousands of steps are work to draw."""
        run, layer = look.run, look.layer
        ended = bool(run.job and run.job.is_finished)
        pace = 1 if ended else max(1, steps // REDRAWS)
        at = f"{(newest.step if newest else 0) // pace}-{ended:d}"
        query = f"?{urlencode({'at': at, **look_query(read_look(look.query))})}"
        src = f"/ui/figures/runs/{run.id}"
        changes: Changes = {
            panel: figure(f"{src}/{view}{query}" if newest else None, WAITING) for view, panel in self.charts.items()
        }
        if newest and newest.gates and layer in newest.gates:
            changes[self.charts["gates"]] = figure(f"{src}/gates{query}&layer={layer}", WAITING)
        return changes
