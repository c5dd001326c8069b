"""The first page: what this is and two ways to begin; later what runs, what has finished, what to do next."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.bases.packages import SMOLLM2
from jobs.tour import Tour
from studio.pages.common import ACT, TICK, chosen_id, chosen_text
from studio.pages.home.first import answers, drawn_answers, moments, ways
from studio.pages.home.views import Desk, corpora, finished, headline, runs_now, what_next
from studio.pages.page import Changes, Page
from studio.pages.tour.views import has_real
from studio.widgets import Acts, FirstAnswers, LiveChanges, SeenBefore

LONGEST_TIME = 12  # digits of seconds since 1970


class HomePage(Page):
    """The first page of a new studio, or the workspace of one with something in it."""

    title = "Home"
    path = ""

    def layout(self) -> None:
        self.watch = LiveChanges()
        self.before = SeenBefore()
        self.since, self.opened = gr.Textbox(visible=False), gr.Textbox(visible=False)
        with gr.Column(visible=False) as self.first:
            with gr.Row(elem_classes="hy-first"):
                with gr.Column(min_width=320):
                    self.ways = Acts(value=ways())
                with gr.Column(min_width=320):
                    FirstAnswers(answers(), drawn_answers())
            gr.HTML(moments())
        with gr.Column(visible=False) as self.work:
            self.head = gr.HTML()
            with gr.Row(elem_classes="hy-desk"):
                with gr.Column(scale=7, min_width=320):
                    self.now = Acts(elem_id="runs-now")
                    self.finished = gr.HTML(elem_id="finished")
                with gr.Column(scale=4, min_width=300):
                    self.next = gr.HTML(elem_id="next")
            self.corpora = gr.HTML()

    def connect(self) -> None:
        live = [self.watch, self.first, self.work, self.head, self.now, self.finished, self.next, self.corpora]
        self.on_change(self.watch, self.draw, self.since, live)
        self.before.select(self.note_visit, None, self.since, **ACT).then(self.draw, self.since, live, **TICK)
        self.ways.select(self.act, None, self.opened, **ACT)
        self.now.select(self.act, None, self.opened, **ACT)
        self.opened.change(None, self.opened, None, js="(page) => { if (page) location.assign('/tour'); }")

    def draw(self, since: Any = "") -> Changes:
        """Everything that is there now; ``since`` is when this browser was here last."""
        watching, totals = self.watching("all"), self.store.totals()
        is_new = not totals.corpora and not totals.runs
        shown = {self.watch: watching, self.first: gr.update(visible=is_new), self.work: gr.update(visible=not is_new)}
        if is_new:
            return shown
        desk = Desk(self.store, seconds(since), totals)
        return shown | {
            self.head: headline(desk),
            self.now: runs_now(desk),
            self.finished: finished(desk),
            self.next: what_next(desk),
            self.corpora: corpora(desk),
        }

    def note_visit(self, event: gr.EventData) -> Changes:
        """When this browser was here last."""
        data = event._data if isinstance(event._data, dict) else {}
        since = data.get("since")
        return {self.since: str(since) if type(since) is int and since >= 0 else "0"}

    def act(self, event: gr.EventData) -> Changes:
        """Begin the tour, or stop a job."""
        data = event._data if isinstance(event._data, dict) else {}
        if data.get("act") == "sample":
            Tour(self.store).begin()
            return {self.opened: "tour"}
        if data.get("act") == "real-sample" and has_real(self.store):
            Tour(self.store).begin(base=SMOLLM2.name)
            return {self.opened: "tour"}
        if data.get("act") == "stop":
            self.store.queue.stop(chosen_id(data.get("of")) or 0)
        return {}


def seconds(value: Any) -> float:
    """Seconds since 1970 as an input holds them; 0 where it holds something else."""
    text = chosen_text(value)
    return float(text) if text.isdecimal() and len(text) <= LONGEST_TIME else 0.0
