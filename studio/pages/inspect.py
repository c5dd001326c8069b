"""Inspect: what the gates do, what each expert is for, how alike the heads are, and where the matrices lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from jobs.analyses import OWN
from jobs.records import Run
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.figures import short_layer
from studio.pages import (
    inspect_answers,
    inspect_experts,
    inspect_gates,
    inspect_heads,
    inspect_map,
    inspect_runs,
)
from studio.pages.common import (
    EVENT,
    LIVE_SECONDS,
    TICK,
    address_id,
    corpus_choices,
    run_choices,
    set_address,
    shows_errors,
)
from studio.pages.inspect_import import build_import
from studio.pages.inspect_parts import Found, Look, Part, ask, layer_names

OWN_CORPUS = ("the run's own corpus", OWN)
LEAD = "Do the experts differ, and does the router choose? Every picture comes with what chance alone would give."


def finished_runs(store: Store) -> list[Run]:
    """Runs with an adapter."""
    return [run for run in store.runs() if run.summary is not None]


def looks_of(parts: list[Part], look: Look) -> list[Look]:
    """One look for each part, with its share of the inputs' values."""
    looks, place = [], 0
    for part in parts:
        looks.append(replace(look, values=look.values[place : place + len(part.picks)]))
        place += len(part.picks)
    return looks


def find_all(parts: list[Part], looks: list[Look], *, again: bool) -> list[Found]:
    """The analyses of every part, queued where they are missing."""
    return [{name: ask(look.store, wanted, again=again) for name, wanted in part.wants(look).items()}
            for part, look in zip(parts, looks, strict=True)]  # fmt: skip


def states(found: list[Found], wanted: set[str]) -> list[int]:
    """Jobs of the analyses that are in one of these states."""
    analyses = [a for part in found for a in part.values() if a and a.job and a.job.status in wanted]
    return [a.job.id for a in analyses if a.job]


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    gr.HTML(cards.head("Inspect", LEAD))
    stamp = gr.Textbox(visible=False)
    with gr.Row():
        chosen = gr.Dropdown([], label="Run", min_width=260, elem_id="inspect-run")
        # The run's own corpus is a choice by itself, so that another run never meets the corpus of the one before.
        corpus = gr.Dropdown([OWN_CORPUS], value=OWN, label="Measured on", min_width=200, elem_id="inspect-corpus")
        layer = gr.Dropdown([], label="Layer", min_width=200, elem_id="inspect-layer")
    build_import(page, store)
    with gr.Row():
        again = gr.Button("Try the failed analyses again", visible=False, size="sm")
        stop = gr.Button("Stop the running analyses", visible=False, size="sm", elem_id="stop-analyses")
    with gr.Tabs():
        with gr.Tab("Answers", id="answers"):
            parts = [inspect_answers.build()]
        with gr.Tab("Gates", id="gates"):
            parts.append(inspect_gates.build(store, chosen, corpus, layer))
        with gr.Tab("Heads", id="heads"):
            parts.append(inspect_heads.build(store, chosen, layer))
        with gr.Tab("Map", id="map"):
            parts.append(inspect_map.build())
        with gr.Tab("Experts", id="experts"):
            parts.append(inspect_experts.build())
        with gr.Tab("Runs", id="runs"):
            parts.append(inspect_runs.build(store, chosen))

    own = [pick for part in parts for pick in part.picks]
    picks: list[Any] = [chosen, corpus, layer, *own]
    live = [again, stop, layer, *[component for part in parts for component in part.live], stamp]

    def blank(runs: list[Run]) -> tuple[Any, ...]:
        way = cards.join("Start one on the ", cards.link("/new-run", "New run"), " page, or import an adapter above; "
                         "its experts are shown here.")  # fmt: skip
        body = cards.empty("No run is finished yet", way) if not runs else cards.note("info", "Choose a run above.")
        hidden = gr.update(visible=False)
        return (hidden, hidden, gr.skip(), *[value for part in parts for value in part.blank(body)], "none")

    def draw(
        run_id: int | None, corpus_id: int | None, layer_: str | None, *rest: Any, retry: bool = False
    ) -> tuple[Any, ...]:
        *values, known = rest
        runs = finished_runs(store)
        run = next((r for r in runs if r.id == run_id), None)
        if run is None:
            return tuple([gr.skip()] * len(live)) if known == "none" else blank(runs)
        on = store.measured_on(run, corpus_id)
        names = layer_names(store, run, on)
        place = layer_ if layer_ in names else names[0] if names else ""
        looks = looks_of(parts, Look(store, run, place or "", tuple(values), on))
        found = find_all(parts, looks, again=retry)
        jobs = [
            (a.id, a.job.status, round(a.job.progress, 2)) if a and a.job else None for f in found for a in f.values()
        ]
        now = repr(
            (run_id, on, layer_, values, jobs, [part.state(look) for part, look in zip(parts, looks, strict=True)])
        )
        if now == known:
            return tuple([gr.skip()] * len(live))
        shown = [value for part, look, f in zip(parts, looks, found, strict=True) for value in part.show(look, f)]
        failed = states(found, {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST})
        active = states(found, {JobStatus.QUEUED, JobStatus.RUNNING})
        chooser = gr.Dropdown(choices=[(short_layer(n), n) for n in names], value=place) if names else gr.skip()
        return (gr.update(visible=bool(failed)), gr.update(visible=bool(active)), chooser, *shown, now)

    def first(request: gr.Request) -> tuple[Any, Any]:
        runs, wanted = finished_runs(store), address_id(request, "run")
        value = next((r.id for r in runs if r.id == wanted), runs[0].id if runs else None)
        return gr.Dropdown(choices=run_choices(runs), value=value), gr.Dropdown(
            choices=[OWN_CORPUS, *corpus_choices(store)]
        )

    shown = shows_errors(draw)
    page.load(first, None, [chosen, corpus], **TICK).then(shown, [*picks, stamp], live, **TICK)
    gr.Timer(LIVE_SECONDS).tick(shown, [*picks, stamp], live, **TICK)
    chosen.input(None, chosen, chosen, js=set_address("run")).then(shown, [*picks, stamp], live, **TICK)
    for pick in picks[1:]:
        pick.input(shown, [*picks, stamp], live, **TICK)
    layer.change(shown, [*picks, stamp], live, **TICK)

    @shows_errors
    def try_again(run_id: int | None, corpus_id: int | None, layer_: str, *values: Any) -> tuple[Any, ...]:
        return draw(run_id, corpus_id, layer_, *values, "", retry=True)

    @shows_errors
    def stop_all(run_id: int | None) -> None:
        for job in store.queue.jobs(statuses=[JobStatus.QUEUED, JobStatus.RUNNING]):
            if job.run_id == run_id and "analysis_id" in job.payload:
                store.queue.stop(job.id)

    again.click(try_again, picks, live, **EVENT)
    stop.click(stop_all, chosen, None, **EVENT)
