"""Inspect: what the gates do, what each expert is for, how alike the heads are, and where the matrices lie."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import gradio as gr

import studio.pages.inspect as package
from hydralora.errors import UserError
from jobs.store.analyses import OWN
from jobs.store.records import Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards
from studio.figures.base import short_layer
from studio.pages.common import (
    TICK,
    asked_for,
    chosen_id,
    chosen_text,
    corpus_choices,
    nothing_there,
    run_choices,
    set_address,
    tuned_run,
)
from studio.pages.inspect.imports import ImportPart
from studio.pages.inspect.tab import Choosers, Found, Look, Tab, ask, layer_names
from studio.pages.page import Changes, Page
from studio.widgets import LiveChanges

STOP, CANCEL = "Stop the running analyses", "Cancel the waiting analyses"
OWN_CORPUS = ("the run's own corpus", OWN)
LEAD = "Do the experts differ, and does the router choose? Every picture comes with what chance alone would give."
ENDED_BADLY = {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST}


def find_tabs() -> list[type[Tab]]:
    """Every tab that a module of this package has, by its place."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    return sorted(Tab.__subclasses__(), key=lambda tab: tab.place)


def finished_runs(store: Store) -> list[Run]:
    """Runs with an adapter."""
    return [run for run in store.runs.all() if run.summary is not None]


def jobs_in(found: list[Found], wanted: set[JobStatus]) -> list[int]:
    """Jobs of the analyses that are in one of these states."""
    analyses = [a for part in found for a in part.values() if a and a.job and a.job.status in wanted]
    return [a.job.id for a in analyses if a.job]


def progress_of(found: list[Found]) -> list[Any]:
    """How far every analysis is, in short."""
    return [
        (a.id, a.job.status, round(a.job.progress, 2)) if a and a.job else None for part in found for a in part.values()
    ]


class InspectPage(Page):
    """A finished run, looked at in tabs; what a tab wants is measured when it is first asked for."""

    title = "Inspect"
    path = "inspect"

    # Drawing

    def layout(self) -> None:
        gr.HTML(cards.head("Inspect", LEAD))
        self.watch = LiveChanges()
        self.stamp = gr.Textbox(visible=False)
        self.problem = gr.HTML()
        with gr.Row():
            self._choosers()
        self.imports = ImportPart(self.blocks, self.store)
        with gr.Row():
            self.again = gr.Button("Try the failed analyses again", visible=False, size="sm")
            self.stop = gr.Button(STOP, visible=False, size="sm", elem_id="stop-analyses")
        self.tabs: list[Tab] = []
        with gr.Tabs():
            for kind in find_tabs():
                with gr.Tab(kind.title, id=kind.title.lower()):
                    self.tabs.append(kind(self.blocks, self.store))

    def _choosers(self) -> None:
        self.choosers = Choosers(
            gr.Dropdown([], label="Run", min_width=260, elem_id="inspect-run"),
            # The run's own corpus is a choice by itself, so that another run never meets the corpus of the one before.
            gr.Dropdown([OWN_CORPUS], value=OWN, label="Measured on", min_width=200, elem_id="inspect-corpus"),
            gr.Dropdown([], label="Layer", min_width=200, elem_id="inspect-layer"),
        )

    # Events

    def connect(self) -> None:
        run, corpus, layer = self.choosers.run, self.choosers.corpus, self.choosers.layer
        self.own_picks = [pick for tab in self.tabs for pick in tab.picks()]
        picks = [run, corpus, layer, *self.own_picks]
        live = [self.watch, self.again, self.stop, layer, *[c for tab in self.tabs for c in tab.live()], self.stamp]
        drawing: dict[str, Any] = {"fn": self.draw, "inputs": [*picks, self.stamp], "outputs": live, **TICK}
        self.on_open(self.load, None, [run, corpus, self.problem]).then(**drawing)
        self.watch.select(**drawing)
        run.input(self.forget_problem, run, [run, self.problem], js=set_address("run"), **TICK).then(**drawing)
        for pick in picks[1:]:
            pick.input(**drawing)
        layer.change(**drawing)
        self.on_click(self.again, self.try_again, picks, live)
        self.on_click(self.stop, self.stop_all, run, None)
        self.imports.connect()
        for tab in self.tabs:
            tab.choosers = self.choosers
            tab.connect()

    # Handlers

    def load(self, request: gr.Request) -> Changes:
        """The runs and corpora there are; the run that the address names is chosen, else the newest."""
        runs = finished_runs(self.store)
        run, missing = asked_for(request, "run", "Run", lambda wanted: tuned_run(self.store, wanted))
        if run is None and not missing:
            run = runs[0] if runs else None
        way = "Choose a run below, or import an adapter." if runs else "No run is finished yet."
        return {
            self.choosers.run: gr.Dropdown(choices=run_choices(runs), value=run.id if run else None),
            self.choosers.corpus: gr.Dropdown(choices=[OWN_CORPUS, *corpus_choices(self.store)]),
            self.problem: nothing_there(missing, way),
        }

    def forget_problem(self, run_id: Any) -> Changes:
        """Whoever chooses a run no longer needs to know what was wrong with the address."""
        return {self.problem: ""}

    def draw(self, run_id: Any, corpus_id: Any, layer: Any, *values_and_stamp: Any, retry: bool = False) -> Changes:
        """What has changed since the stamp; analyses that are missing are queued."""
        *values, known = values_and_stamp
        run = self._chosen(run_id)
        if run is None:
            return {} if known == "none" else self._blank(finished_runs(self.store))
        picked = dict(zip(self.own_picks, values, strict=True))
        topics = dict.fromkeys(topic for tab in self.tabs for topic in tab.topics(picked))
        watching = self.watching(f"run-{run.id}", *topics)
        on = self.store.analyses.measured_on(run, chosen_id(corpus_id))
        names, layer = layer_names(self.store, run, on), chosen_text(layer)
        place = layer if layer in names else names[0] if names else ""
        look = Look(self.store, run, place, picked, on)
        found = [
            {name: ask(self.store, wanted, again=retry) for name, wanted in tab.wants(look).items()}
            for tab in self.tabs
        ]
        others = [tab.state(look) for tab in self.tabs]
        now = repr((run.id, on, layer, values, progress_of(found), others))
        if now == known:
            return {}
        changes: Changes = {self.watch: watching, **self._buttons(found), self.stamp: now}
        if names:
            moved: dict[str, Any] = {} if place == layer else {"value": place}  # one that was chosen meanwhile stays
            changes[self.choosers.layer] = gr.Dropdown(choices=[(short_layer(n), n) for n in names], **moved)
        for tab, analyses in zip(self.tabs, found, strict=True):
            changes |= tab.show(look, analyses)
        return changes

    def _chosen(self, run_id: Any) -> Run | None:
        """The finished run that is chosen, unless it has been deleted."""
        try:
            return tuned_run(self.store, chosen_id(run_id) or 0)
        except UserError:
            return None

    def _buttons(self, found: list[Found]) -> Changes:
        """What can be done about analyses that failed, run or wait."""
        running, waiting = jobs_in(found, {JobStatus.RUNNING}), jobs_in(found, {JobStatus.QUEUED})
        return {
            self.again: gr.update(visible=bool(jobs_in(found, ENDED_BADLY))),
            self.stop: gr.Button(STOP if running else CANCEL, visible=bool(running or waiting)),
        }

    def _blank(self, runs: list[Run]) -> Changes:
        """The page where no run is chosen."""
        way = cards.join(
            "Start one on the ",
            cards.link("/new-run", "New run"),
            " page, or import an adapter above; its experts are shown here.",
        )
        body = cards.note("info", "Choose a run above.") if runs else cards.empty("No run is finished yet", way)
        hidden = gr.update(visible=False)
        changes: Changes = {self.watch: self.watching("runs"), self.stamp: "none"}
        changes |= {self.again: hidden, self.stop: hidden}
        for tab in self.tabs:
            changes |= tab.blank(body)
        return changes

    def try_again(self, *picks: Any) -> Changes:
        """Queue the analyses that failed once more."""
        return self.draw(*picks, "", retry=True)

    def stop_all(self, run_id: Any) -> None:
        """Stop the analyses of the chosen run, those that wait too."""
        for job in self.store.queue.jobs(statuses=[JobStatus.QUEUED, JobStatus.RUNNING]):
            if job.run_id == chosen_id(run_id) and "analysis_id" in job.payload:
                self.store.queue.stop(job.id)
