"""Run: one training, live: progress, loss, gates, log; stop, resume, look inside."""

from __future__ import annotations

from typing import Any

import gradio as gr

from jobs.store.records import Analysis, Run, Step
from jobs.store.status import JobStatus
from studio import cards
from studio.figures.base import short_layer
from studio.figures.curves import CURVES
from studio.pages.common import TICK, address_id, asked_for, chosen_text
from studio.pages.page import Changes, Page, refuse_unsure, rename_or_delete
from studio.pages.run.export import ExportPart
from studio.pages.run.verdict import asked_answers, verdict_view
from studio.pages.run.views import (
    can_resume,
    gates_now,
    headline,
    history_table,
    links,
    misses_base,
    no_run,
    planned,
    run_cards,
    run_state,
    settings_table,
    smaller_words,
)
from studio.widgets import FigurePanel, LiveChanges, figure

REDRAWS = 100  # of the charts during a run
WAITING = "The first numbers appear with the first step."
ALL_LAYERS = ("mean of all layers", "")


class RunPage(Page):
    """The run that the address names."""

    title = "Run"
    path = "run"
    in_header = False

    # Drawing

    def layout(self) -> None:
        self.watch = LiveChanges()
        self.head, self.state, self.verdict = gr.HTML(), gr.HTML(), gr.HTML()
        self.facts, self.links = gr.HTML(), gr.HTML()
        self.stamp = gr.Textbox(visible=False)
        with gr.Column(visible=False) as self.detail:
            with gr.Row():
                self.stop = gr.Button("Stop", variant="stop", min_width=120, scale=0, visible=False, elem_id="stop-run")
                self.resume = gr.Button(
                    "Resume", variant="primary", min_width=120, scale=0, visible=False, elem_id="resume-run"
                )
                self.smaller = gr.Button("Go on in smaller parts", min_width=120, scale=0, visible=False)
            with gr.Column() as self.curves:
                self._charts()
            self.export = ExportPart(self.blocks, self.store)
            with gr.Accordion("History", open=False):
                self.history = gr.HTML()
            with gr.Accordion("Log", open=False):
                self.log = gr.HTML()
            with gr.Accordion("Settings", open=False):
                self.settings = gr.HTML()
            self.new_name, self.rename, self.sure, self.delete = rename_or_delete("run")

    def _charts(self) -> None:
        self.charts: dict[str, FigurePanel] = {}
        with gr.Row():
            with gr.Column(min_width=320):
                self.charts["loss"] = FigurePanel(height=300, elem_id="chart-loss")
            with gr.Column(min_width=320):
                self.charts["gates"] = FigurePanel(height=300, elem_id="chart-gates")
                self.layer = gr.Dropdown([ALL_LAYERS], value="", label="Layer", min_width=200)
        others = [view for view in CURVES if view not in self.charts]
        words = ", ".join(CURVES[view].title for view in others[:-1]).capitalize()
        with gr.Accordion(f"{words} and {CURVES[others[-1]].title.lower()}", open=False), gr.Row():
            for view in others:
                with gr.Column(min_width=320):
                    self.charts[view] = FigurePanel(height=260)

    # Events

    def connect(self) -> None:
        live = [self.watch, self.head, self.state, self.verdict, self.facts, self.links, self.detail, self.curves]
        live += [
            self.stop,
            self.resume,
            self.smaller,
            self.history,
            self.log,
            self.settings,
            self.layer,
            *self.charts.values(),
            self.stamp,
        ]
        known = [self.layer, self.stamp]
        self.on_change(self.watch, self.draw, known, live)
        self.layer.input(self.draw, known, live, **TICK)
        self.on_click(self.stop, self.stop_run, None, None).success(self.draw, known, live, **TICK)
        self.on_click(self.resume, self.resume_run, None, None).success(self.draw, known, live, **TICK)
        self.on_click(self.smaller, self.resume_smaller, None, None).success(self.draw, known, live, **TICK)
        self.on_click(self.rename, self.rename_run, self.new_name, None).success(self.draw, known, live, **TICK)
        self.on_click(self.delete, self.delete_run, self.sure, None).success(
            None, None, None, js="() => location.assign('/')"
        )
        self.export.watch = self.watch
        self.export.connect()

    # Handlers

    def draw(self, request: gr.Request, layer: str | None, known: str) -> Changes:
        """Everything that has changed since ``known``."""
        watching = self.watching(f"run-{address_id(request, 'run') or 0}")
        run, problem = asked_for(request, "run", "Run", self.store.runs.get)
        if run is None:
            if known == "none":
                return {}
            return {self.head: cards.head("Run"), self.state: no_run(problem), self.stamp: "none"}
        newest = self.store.runs.newest(run.id)
        chosen = chosen_text(layer)
        answers = asked_answers(self.store, run)
        now = self._state_of(run, newest, chosen, answers)
        if now == known:
            return {}
        job = run.job
        training_set = self.store.runs.training_set(run.id)
        return {
            self.watch: watching,
            self.head: headline(self.store, run),
            self.state: run_state(self.store, run, training_set),
            self.verdict: verdict_view(self.store, run, answers),
            self.facts: cards.join(run_cards(run, newest, training_set), gates_now(newest)),
            self.links: links(run),
            self.detail: gr.update(visible=True),
            self.curves: gr.update(visible=not run.is_imported),
            self.stop: gr.Button(
                visible=bool(job and not job.is_finished),
                interactive=bool(job and job.status != JobStatus.STOPPING),
            ),
            self.resume: gr.Button(
                "Look for its base again" if misses_base(run) else "Resume", visible=can_resume(run)
            ),
            self.history: history_table(self.store.runs.events(run.id)),
            self.smaller: gr.Button(smaller_words(run), visible=run.can_shrink),
            self.log: cards.log(self.store.queue.log_tail(job) if job else ""),
            self.settings: settings_table(run, training_set),
            **self._draw_charts(run, newest, chosen, planned(run, training_set)),
            self.stamp: now,
        }

    def _state_of(self, run: Run, newest: Step | None, layer: str, answers: Analysis | None) -> str:
        """All that is shown, in short."""
        jobs = [job for job in (run.job, answers and answers.job) if job]
        work = [(job.id, job.status, job.progress, job.progress_text, job.attempt) for job in jobs]
        return repr((run.name, run.corpus_id, work, newest and (newest.step, newest.numbers), layer))

    def _draw_charts(self, run: Run, newest: Step | None, layer: str, steps: int) -> Changes:
        """The curves; drawn anew every hundredth of the run and at its end: thousands of steps are work to draw."""
        ended = bool(run.job and run.job.is_finished)
        pace = 1 if ended else max(1, steps // REDRAWS)
        query = f"?at={(newest.step if newest else 0) // pace}-{ended:d}"
        src = f"/ui/figures/runs/{run.id}"
        changes: Changes = {
            panel: figure(f"{src}/{view}{query}" if newest else None, WAITING) for view, panel in self.charts.items()
        }
        gates = newest.gates if newest else None
        if gates:
            changes[self.layer] = gr.Dropdown(choices=[ALL_LAYERS, *((short_layer(name), name) for name in gates)])
            if layer in gates:
                changes[self.charts["gates"]] = figure(f"{src}/gates{query}&layer={layer}", WAITING)
        return changes

    def stop_run(self, request: gr.Request) -> None:
        """Ask it to stop; it writes a checkpoint first."""
        self.store.runs.stop(address_id(request, "run") or 0)

    def resume_run(self, request: gr.Request) -> None:
        """Go on from its last checkpoint."""
        self.store.runs.resume(address_id(request, "run") or 0)

    def resume_smaller(self, request: gr.Request) -> None:
        """Go on from its last checkpoint with half the examples in one forward pass."""
        self.store.runs.resume(address_id(request, "run") or 0, smaller=True)

    def rename_run(self, request: gr.Request, name: str) -> None:
        """Give it another name."""
        self.store.runs.rename(address_id(request, "run") or 0, chosen_text(name))

    def delete_run(self, request: gr.Request, is_sure: Any) -> None:
        """Delete it with everything that belongs to it, where the box is ticked."""
        refuse_unsure(is_sure)
        self.store.runs.delete(address_id(request, "run") or 0)
