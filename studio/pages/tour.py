"""The tour on the Overview: what it will show, how far it is, and where each step can be looked at."""

from __future__ import annotations

import gradio as gr

from jobs.records import Run
from jobs.status import JobStatus
from jobs.store import Store
from jobs.tour import LOOKS, Stage, Tour
from studio import cards
from studio.cards import Markup
from studio.pages.common import EVENT, LIVE_SECONDS, TICK, eta, go_to, shows_errors

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
        return [Markup("✕"), TITLES[stage.name], cards.join(cards.status(job.status), " ", job.error or job.progress_text), stage_link(stage, tour)]  # fmt: skip
    about = f"{job.progress_text or 'waiting'} {eta(job)}"
    return [Markup("●"), TITLES[stage.name], cards.progress(job.progress, about), stage_link(stage, tour)]


def outcome(store: Store, run: Run) -> Markup:
    """What training changed, in one sentence, and the way into the chat."""
    looks = [store.find_analysis(run.id, kind) for kind in LOOKS]
    sentences = [(look.job.result or {}).get("sentence", "") for look in looks if look and look.job]
    links = cards.join(
        cards.link(f"/chat?run={run.id}", "Chat with it"), Markup(" · "),
        cards.link(f"/inspect?run={run.id}", "Inspect the experts"),
    )  # fmt: skip
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
    return cards.join(outcome(store, store.run(tour.run_id or 0)), view) if tour.is_done else view


def has_samples(store: Store) -> bool:
    """Whether there is anything that came with the studio."""
    return any(run.is_sample for run in store.runs()) or any(corpus.is_sample for corpus in store.corpora())


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the tour's part of the Overview."""
    view = gr.HTML(elem_id="tour")
    with gr.Row():
        begin = gr.Button(
            "Take the tour", variant="primary", visible=False, scale=0, min_width=200, elem_id="begin-tour"
        )
        leave = gr.Button("Leave the tour", visible=False, scale=0, min_width=160, elem_id="leave-tour")
        chat = gr.Button("Open the chat", variant="primary", visible=False, scale=0, min_width=200, elem_id="tour-chat")
        remove = gr.Button("Remove the samples", visible=False, scale=0, min_width=220, elem_id="remove-samples")
    seen = gr.Textbox(visible=False)
    arrived = gr.Textbox(visible=False)
    parts = [view, begin, leave, chat, remove, seen, arrived]

    def draw(seen_: str) -> tuple[object, ...]:
        tour = Tour(store)
        done = tour.is_done
        now = "done" if done else "under way" if tour.is_on and not tour.problem else ""
        training = any(s.job and s.job.status == JobStatus.RUNNING for s in tour.stages()) if tour.is_on else False
        return (
            tour_view(store, tour),
            gr.Button(
                "Start it again" if tour.problem else "Take the tour",
                visible=bool(tour.problem) or not tour.is_on,
                variant="primary" if tour.is_offered or tour.problem else "secondary",
            ),
            gr.Button("Close" if done else "Not now" if tour.is_offered else "Leave the tour", visible=tour.is_on or tour.is_offered),
            gr.Button(visible=done),
            gr.Button("Stop and remove the samples" if training else "Remove the samples", visible=has_samples(store)),
            now,
            str(tour.run_id) if done and seen_ == "under way" else "",
        )  # fmt: skip

    @shows_errors
    def start() -> None:
        Tour(store).begin()

    @shows_errors
    def stop() -> None:
        Tour(store).dismiss()

    @shows_errors
    def take_away() -> None:
        Tour(store).remove()

    page.load(draw, seen, parts, **TICK)
    gr.Timer(LIVE_SECONDS).tick(draw, seen, parts, **TICK)
    for button, handler in ((begin, start), (leave, stop), (remove, take_away)):
        button.click(handler, None, None, **EVENT).success(draw, seen, parts, **TICK)
    chat.click(lambda: str(Tour(store).run_id or ""), None, arrived, **EVENT)
    arrived.change(None, arrived, None, js=go_to("/chat", "run"))
