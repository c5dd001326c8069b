"""The tour: a sample from its file to a chat, explained step by step with the pictures of the moment."""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr

from hydralora.bases.packages import SMOLLM2
from hydralora.corpus.query import Query
from hydralora.errors import UserError
from jobs.tour import BASE, Stage, Tour
from studio.pages.common import TICK
from studio.pages.corpora.selection_views import map_of
from studio.pages.new_run.offer import NOT_HERE
from studio.pages.page import Changes, Page
from studio.pages.tour.views import (
    choice,
    current_stage,
    examples,
    explained,
    has_real,
    headline,
    is_training,
    real_minutes,
    steps_list,
    tries,
    whole_minutes,
)
from studio.widgets import CorpusMap, FigurePanel, LiveChanges, figure

Variant = Literal["primary", "secondary"]
REDRAWS = 60  # of the curves during the training
GO_TO_CHAT = "(id) => { if (id) location.assign(`/run?run=${encodeURIComponent(id)}&tab=chat&try=1`); }"


class TourPage(Page):
    """Everything that is known of the tour comes from its jobs: it goes on whether this page is open or not."""

    title = "The tour"
    path = "tour"

    # Drawing

    def layout(self) -> None:
        self.watch = LiveChanges()
        self.head = gr.HTML(elem_id="tour")
        with gr.Row(elem_classes="hy-listed"):
            with gr.Column(scale=0, min_width=320):
                self.steps = gr.HTML()
                self.note = gr.HTML(
                    "<p class='hy-quiet'>You can leave; it goes on, and this page takes it up again.</p>"
                )
                self.choice = gr.HTML(visible=False)
                with gr.Row(elem_classes="hy-acts"):
                    self.begin = self._button("Start", "begin-tour", "primary")
                    self.real = self._button("Start with SmolLM2", "begin-real-tour")
                    self.chat = self._button("Open the chat", "tour-chat", "primary")
                    self.leave = self._button("Leave the tour", "leave-tour")
                    self.remove = self._button("Remove the samples", "remove-samples")
            with gr.Column(scale=1, min_width=320, elem_classes="hy-object"):
                self.why = gr.HTML()
                self.examples = gr.HTML(examples(), visible=False)
                self.map = CorpusMap(visible=False, elem_id="tour-map")
                with gr.Row(visible=False) as self.curves:
                    with gr.Column(min_width=300):
                        self.loss = FigurePanel(height=300, elem_id="tour-loss")
                    with gr.Column(min_width=300):
                        self.gates = FigurePanel(height=300, elem_id="tour-gates")
                gr.HTML(tries())
        self.seen, self.arrived = gr.Textbox(visible=False), gr.Textbox(visible=False)

    @staticmethod
    def _button(words: str, elem_id: str, variant: Variant = "secondary") -> gr.Button:
        return gr.Button(words, variant=variant, visible=False, size="sm", scale=0, min_width=90, elem_id=elem_id)

    # Events

    def connect(self) -> None:
        live = [self.watch, self.head, self.steps, self.note, self.choice, self.begin, self.real, self.chat]
        live += [
            self.leave,
            self.remove,
            self.why,
            self.examples,
            self.map,
            self.curves,
            self.loss,
            self.gates,
            self.seen,
            self.arrived,
        ]
        self.on_change(self.watch, self.draw, self.seen, live)
        for button, handler in (
            (self.begin, self.start),
            (self.real, self.start_real),
            (self.leave, self.dismiss),
            (self.remove, self.remove_samples),
        ):
            self.on_click(button, handler, None, None).success(self.draw, self.seen, live, **TICK)
        self.on_click(self.chat, self.open_chat, None, self.arrived)
        self.arrived.change(None, self.arrived, None, js=GO_TO_CHAT)

    # Handlers

    def draw(self, seen: str = "") -> Changes:
        """Where the tour is; one that was seen under way and has ended opens its chat."""
        watching, tour = self.watching("all"), Tour(self.store).look()
        done = tour.is_done
        now = "done" if done else "under way" if tour.is_on and not tour.problem else ""
        return {
            self.watch: watching,
            self.head: headline(self.store, tour),
            self.steps: steps_list(self.store, tour),
            self.note: gr.update(visible=now == "under way"),
            self.why: explained(tour),
            **self._buttons(tour, done),
            **self._pictures(tour),
            self.seen: now,
            self.arrived: str(tour.run_id) if done and seen == "under way" else "",
        }

    def _buttons(self, tour: Tour, done: bool) -> Changes:
        can_start = bool(tour.problem) or not tour.is_on
        can_real = has_real(self.store) and (can_start or (done and tour.base == BASE))
        return {
            self.choice: gr.update(value=choice(self.store), visible=can_real),
            self.begin: gr.Button(f"Start: about {whole_minutes(BASE)} min", visible=can_start),
            self.real: gr.Button(f"With SmolLM2: about {real_minutes(self.store)} min", visible=can_real),
            self.chat: gr.Button(visible=done),
            self.leave: gr.Button("Close the tour" if done else "Leave the tour", visible=tour.is_on),
            self.remove: gr.Button(
                "Stop and remove the samples" if is_training(tour) else "Remove the samples",
                visible=tour.totals.has_samples,
            ),
        }

    def _pictures(self, tour: Tour) -> Changes:
        """The pictures of this moment: examples, then their clusters, then the curves of the training."""
        stage = current_stage(tour)
        newest = self._newest(tour, stage)
        clustering_id = tour.notes.get("clustering_id") if tour.is_on else None
        has_curves = newest is not None
        shows_map = not has_curves and clustering_id is not None and stage is not None and stage.name == "run"
        ended = stage is None or stage.name != "run"
        # A finished training is drawn once, one under way so many times.
        query = f"?at={newest or 0}-{ended:d}"
        src = f"/ui/figures/runs/{tour.run_id}"
        return {
            self.examples: gr.update(visible=not has_curves and not shows_map),
            self.map: gr.update(value=self._map(tour) if shows_map else None, visible=shows_map),
            self.curves: gr.update(visible=has_curves),
            self.loss: figure(f"{src}/loss{query}" if has_curves else None),
            self.gates: figure(f"{src}/gates{query}" if has_curves else None),
        }

    def _newest(self, tour: Tour, stage: Stage | None) -> int | None:
        """The step up to which the curves are drawn; None before the first."""
        if not tour.is_on or tour.run_id is None:
            return None
        try:
            run = self.store.runs.get(tour.run_id)
        except UserError:  # deleted meanwhile; the tour notices and says so
            return None
        newest = self.store.runs.newest(run.id)
        if newest is None:
            return None
        pace = max(1, run.config.train.max_steps // REDRAWS) if stage is not None and stage.name == "run" else 1
        return newest.step // pace * pace

    def _map(self, tour: Tour) -> dict[str, Any] | None:
        corpus_id = tour.notes["corpus_id"]
        known = self.store.selections.membership(corpus_id)
        found = map_of(known, corpus_id, Query(), self.store.selections.find(corpus_id, Query()))
        return {**found, "selects": False}

    def start(self) -> None:
        """Begin the tour with the starter, or begin it again."""
        Tour(self.store).begin(base=BASE)

    def start_real(self) -> None:
        """Begin the tour with a real language model.

        Raises:
            UserError: Where nothing may be fetched for who comes to the page.
        """
        if not has_real(self.store):
            raise UserError(NOT_HERE)
        Tour(self.store).begin(base=SMOLLM2.name)

    def dismiss(self) -> None:
        """Leave or close it; what is under way goes on."""
        Tour(self.store).dismiss()

    def remove_samples(self) -> None:
        """Take away everything that came with the studio."""
        Tour(self.store).remove()

    def open_chat(self) -> Changes:
        """Go to the chat of the tour's run."""
        return {self.arrived: str(Tour(self.store).run_id or "")}
