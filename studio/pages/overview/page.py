"""Overview: what there is, what is running, and where to begin."""

from __future__ import annotations

import gradio as gr

from jobs.tour import Tour, add_sample
from studio import cards
from studio.pages.common import go_to
from studio.pages.overview.tour import TourPart
from studio.pages.overview.views import jobs_table, runs_table, summary
from studio.pages.page import Changes, Page
from studio.widgets import LiveChanges

LEAD = "Upload a corpus, see its clusters, train with one click, and see which expert speaks."


class OverviewPage(Page):
    """The first page."""

    title = "Overview"
    path = ""

    def layout(self) -> None:
        gr.HTML(cards.head("Hydra Studio", LEAD))
        self.watch = LiveChanges()
        self.top = gr.HTML()
        self.tour = TourPart(self.blocks, self.store)
        with gr.Row():
            self.sample = gr.Button("Open the sample corpus", elem_id="use-sample")
            gr.Button("Upload my own corpus", link="/corpora")
            gr.Button("New run", link="/new-run")
        self.opened = gr.Textbox(visible=False)
        self.working = gr.HTML()
        self.runs = gr.HTML()

    def connect(self) -> None:
        live = [self.watch, self.top, self.working, self.runs, *self.tour.live()]
        self.on_change(self.watch, self.draw, self.tour.seen, live)
        self.tour.connect()
        self.on_click(self.sample, self.open_sample, None, self.opened).then(
            None, self.opened, None, js=go_to("/corpora", "corpus")
        )

    def draw(self, seen: str = "") -> Changes:
        """Everything that is there now; ``seen`` is how far the tour was."""
        watching, tour = self.watching("all"), Tour(self.store).look()
        return {
            self.watch: watching,
            self.top: summary(tour.totals),
            self.working: jobs_table(self.store),
            self.runs: runs_table(self.store),
            **self.tour.show(tour, seen),
        }

    def open_sample(self) -> Changes:
        """Add the sample corpus, and open it."""
        return {self.opened: str(add_sample(self.store))}
