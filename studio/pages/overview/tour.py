"""The tour on the Overview: what it will show, how far it is, and where each step can be looked at."""

from __future__ import annotations

from typing import Any, Literal

import gradio as gr

from hydralora.plain import without_paths
from jobs.store.records import Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.tour import LOOKS, Stage, Tour
from studio import cards
from studio.cards import Markup
from studio.pages.common import TICK, eta, go_to
from studio.pages.page import Changes, Part

Variant = Literal["primary", "secondary"]
TITLES = {
    "corpus": "Read a small corpus of four kinds of task",
    "clusters": "Find its clusters, and how many experts they ask for",
    "run": "Train a HydraLoRA with one expert for each",
    "looks": "Compare the answers, and see which expert speaks",
}
OFFER = (
    "One click reads a sample corpus, finds its clusters, trains a small model for about three minutes in the "
    "background, and ends in a chat that shows which expert speaks. Nothing is downloaded."
)


def stage_link(stage: Stage, tour: Tour) -> Markup:
    """Where a step can be looked at; empty before it has begun."""
    notes, run = tour.notes, tour.run_id
    if stage.job is None:
        return Markup("")
    if stage.name in ("corpus", "clusters"):
        return cards.link(f"/corpora?corpus={notes['corpus_id']}", "look")
    return cards.link(f"/run?run={run}" if stage.name == "run" else f"/inspect?run={run}", "look")


def stage_row(stage: Stage, tour: Tour, is_next: bool) -> list[object]:
    """One step as a row: its state, what it does, how far it is, and a link."""
    job = stage.job
    if job is None:
        words = "a few steps are timed first" if is_next and stage.name == "run" else "next" if is_next else ""
        return [Markup("○"), TITLES[stage.name], words, ""]
    if stage.is_done:
        return [Markup("✓"), TITLES[stage.name], "done", stage_link(stage, tour)]
    if job.is_finished:
        return [
            Markup("✕"),
            TITLES[stage.name],
            cards.join(cards.status(job.status), " ", without_paths(job.error or job.progress_text)),
            stage_link(stage, tour),
        ]
    about = f"{job.progress_text or 'waiting'} {eta(job)}"
    return [Markup("●"), TITLES[stage.name], cards.progress(job.progress, about), stage_link(stage, tour)]


def outcome(store: Store, run: Run) -> Markup:
    """What training changed, in one sentence, and the way into the chat."""
    looks = [store.analyses.find(run.id, kind) for kind in LOOKS]
    sentences = [(look.job.result or {}).get("sentence", "") for look in looks if look and look.job]
    links = cards.join(
        cards.link(f"/chat?run={run.id}", "Chat with it"),
        Markup(" · "),
        cards.link(f"/inspect?run={run.id}", "Inspect the experts"),
    )
    return cards.note("good", "The tour is done.", cards.join(" ".join(sentences) + " ", links))


def tour_view(store: Store, tour: Tour) -> Markup:
    """The offer, the steps under way, or the outcome; empty when the tour is not wanted."""
    if tour.is_offered:
        return cards.note("info", "See it work in about four minutes.", OFFER)
    if not tour.is_on:
        return Markup("")
    stages = tour.stages()
    first_open = next((stage.name for stage in stages if not stage.is_done), "")
    rows = [stage_row(stage, tour, stage.name == first_open) for stage in stages]
    view = cards.table(["", "Step", "State", ""], rows, caption="The tour")
    if tour.problem:
        return cards.join(cards.note("bad", "The tour cannot go on.", tour.problem), view)
    return cards.join(outcome(store, store.runs.get(tour.run_id or 0)), view) if tour.is_done else view


def is_training(tour: Tour) -> bool:
    """Whether a job of the tour works just now."""
    return tour.is_on and any(stage.job and stage.job.status == JobStatus.RUNNING for stage in tour.stages())


class TourPart(Part):
    """The tour's part of the Overview, which draws it with the rest."""

    def layout(self) -> None:
        self.view = gr.HTML(elem_id="tour")
        with gr.Row():
            self.begin = self._button("Take the tour", "begin-tour", 200, variant="primary")
            self.leave = self._button("Leave the tour", "leave-tour", 160)
            self.chat = self._button("Open the chat", "tour-chat", 200, variant="primary")
            self.remove = self._button("Remove the samples", "remove-samples", 220)
        self.seen = gr.Textbox(visible=False)
        self.arrived = gr.Textbox(visible=False)

    @staticmethod
    def _button(words: str, elem_id: str, width: int, variant: Variant = "secondary") -> gr.Button:
        return gr.Button(words, variant=variant, visible=False, scale=0, min_width=width, elem_id=elem_id)

    def connect(self) -> None:
        for button, handler in (
            (self.begin, self.start),
            (self.leave, self.dismiss),
            (self.remove, self.remove_samples),
        ):
            self.on_click(button, handler, None, None).success(self.draw, self.seen, self.live(), **TICK)
        self.on_click(self.chat, self.open_chat, None, self.arrived)
        self.arrived.change(None, self.arrived, None, js=go_to("/chat", "run"))

    def live(self) -> list[Any]:
        """The components that ``show`` fills."""
        return [self.view, self.begin, self.leave, self.chat, self.remove, self.seen, self.arrived]

    def draw(self, seen: str) -> Changes:
        """Where the tour is now."""
        return self.show(Tour(self.store).look(), seen)

    def show(self, tour: Tour, seen: str) -> Changes:
        """Where the tour is; a tour seen under way that has ended opens its chat."""
        done = tour.is_done
        now = "done" if done else "under way" if tour.is_on and not tour.problem else ""
        again = "Start it again" if tour.problem else "Take the tour"
        leave = "Close" if done else "Not now" if tour.is_offered else "Leave the tour"
        return {
            self.view: tour_view(self.store, tour),
            self.begin: gr.Button(
                again,
                visible=bool(tour.problem) or not tour.is_on,
                variant="primary" if tour.is_offered or tour.problem else "secondary",
            ),
            self.leave: gr.Button(leave, visible=tour.is_on or tour.is_offered),
            self.chat: gr.Button(visible=done),
            self.remove: gr.Button(
                "Stop and remove the samples" if is_training(tour) else "Remove the samples",
                visible=tour.totals.has_samples,
            ),
            self.seen: now,
            self.arrived: str(tour.run_id) if done and seen == "under way" else "",
        }

    def start(self) -> None:
        """Begin the tour, or begin it again."""
        Tour(self.store).begin()

    def dismiss(self) -> None:
        """Leave or close it."""
        Tour(self.store).dismiss()

    def remove_samples(self) -> None:
        """Take away everything that came with the studio."""
        Tour(self.store).remove()

    def open_chat(self) -> Changes:
        """Go to the chat of the tour's run."""
        return {self.arrived: str(Tour(self.store).run_id or "")}
