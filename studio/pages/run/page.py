"""Run: one training and everything that is known of it in tabs: answers, experts, routing, weights, chat, curves."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import gradio as gr

import studio.pages.run as package
from jobs.store.analyses import OWN
from jobs.store.records import Analysis, Run, Step
from jobs.store.status import JobStatus
from studio import cards
from studio.figures.base import short_layer
from studio.pages.common import TICK, address_id, asked_for, chosen_id, chosen_text, corpus_choices
from studio.pages.page import Changes, Page, refuse_unsure, rename_or_delete
from studio.pages.run.headline import headline, no_run, progress_sheet, runs_list
from studio.pages.run.tab import ALL_LAYERS, Choosers, Found, Look, Tab, ask, layer_names
from studio.pages.run.verdict import asked_answers
from studio.pages.run.views import can_resume, misses_base, run_state, smaller_words
from studio.silence import words_of
from studio.tray import place_of
from studio.widgets import Choice, LiveChanges, TabBar

STOP, CANCEL = "Stop the running analyses", "Cancel the waiting analyses"
OWN_CORPUS = ("own corpus", OWN)
ENDED_BADLY = {JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST}
# Gradio's own bar of tabs is hidden, since it hides tabs that find no room; ours tells it which one is open.
OPEN_TAB = "() => ({ __type__: 'update', selected: new URL(location).searchParams.get('tab') })"


def find_tabs() -> list[type[Tab]]:
    """Every tab that a module of this package has, by its place."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
    return sorted(Tab.__subclasses__(), key=lambda tab: tab.place)


def slug(title: str) -> str:
    """A tab's name in the address."""
    return title.lower().replace(" ", "-")


def jobs_in(found: list[Found], wanted: set[JobStatus]) -> list[int]:
    """Jobs of the analyses that are in one of these states."""
    analyses = [a for part in found for a in part.values() if a and a.job and a.job.status in wanted]
    return [a.job.id for a in analyses if a.job]


def progress_of(found: list[Found]) -> list[Any]:
    """How far every analysis is, in short."""
    return [
        (a.id, a.job.status, round(a.job.progress, 2)) if a and a.job else None for part in found for a in part.values()
    ]


class RunPage(Page):
    """The run that the address names; what a tab wants is measured and read when it is opened."""

    title = "Run"
    path = "run"
    section = "/runs"
    in_menu = False

    # Drawing

    def layout(self) -> None:
        self.watch = LiveChanges()
        self.stamp = gr.Textbox(visible=False)
        with gr.Row(elem_classes="hy-listed"):
            with gr.Column(scale=0, min_width=236):
                gr.HTML(cards.side("Runs", "/new-run", "New run", level=2))
                self.list = gr.HTML()
            with gr.Column(scale=1, min_width=320, elem_classes="hy-object"):
                self.head = gr.HTML()
                with gr.Row(elem_classes="hy-acts"):
                    self._acts()
                self.state = gr.HTML()
                with gr.Column(visible=False) as self.detail:
                    with gr.Row(elem_classes="hy-tabs"):
                        self.bar = TabBar(elem_id="run-tabs")
                        self._choosers()
                    self._tabs()
                    self.new_name, self.rename, self.sure, self.delete = rename_or_delete("run")

    def _acts(self) -> None:
        def button(words: str, variant: Any, elem_id: str | None = None) -> gr.Button:
            return gr.Button(words, variant=variant, size="sm", scale=0, min_width=90, visible=False, elem_id=elem_id)

        self.stop = button("Stop", "stop", "stop-run")
        self.resume = button("Resume", "primary", "resume-run")
        self.smaller = button("Go on in smaller parts", "secondary")
        self.again = button("Try the failed analyses again", "secondary")
        self.stop_looks = button(STOP, "secondary", "stop-analyses")

    def _choosers(self) -> None:
        self.choosers = Choosers(
            # Its own corpus is a choice by itself, so that an event under way never carries that of another run.
            Choice([OWN_CORPUS], value=OWN, label="Measured on", min_width=150, elem_id="measured-on"),
            Choice([ALL_LAYERS], value="", label="Layer", min_width=150, elem_id="run-layer"),
        )

    def _tabs(self) -> None:
        kinds = find_tabs()
        self.parts: list[Tab] = []
        with gr.Tabs(elem_classes="hy-panels") as self.tabs:
            for title in dict.fromkeys(kind.title for kind in kinds):
                with gr.Tab(title, id=slug(title)):
                    self.parts += [kind(self.blocks, self.store) for kind in kinds if kind.title == title]

    # Events

    def connect(self) -> None:
        corpus, layer = self.choosers.corpus, self.choosers.layer
        self.own_picks = [pick for part in self.parts for pick in part.picks()]
        picks = [corpus, layer, *self.own_picks]
        live = [self.watch, self.list, self.head, self.state, self.detail, self.bar, self.tabs, corpus, layer]
        live += [self.stop, self.resume, self.smaller, self.again, self.stop_looks, self.stamp]
        live += [component for part in self.parts for component in part.live()]
        drawing: dict[str, Any] = {"fn": self.draw, "inputs": [*picks, self.stamp], "outputs": live, **TICK}
        self.on_change(self.watch, self.draw, drawing["inputs"], live)
        self.bar.select(None, None, self.tabs, js=OPEN_TAB)
        self.bar.select(**drawing)
        for pick in [corpus, *self.own_picks]:
            pick.input(**drawing)
        layer.change(**drawing)
        for button, handler in (
            (self.stop, self.stop_run),
            (self.resume, self.resume_run),
            (self.smaller, self.resume_smaller),
            (self.stop_looks, self.stop_all),
        ):
            self.on_click(button, handler, None, None).success(**drawing)
        self.on_click(self.again, self.try_again, picks, live)
        self.on_click(self.rename, self.rename_run, self.new_name, None).success(**drawing)
        self.on_click(self.delete, self.delete_run, self.sure, None).success(
            None, None, None, js="() => location.assign('/')"
        )
        for part in self.parts:
            part.choosers, part.drawing = self.choosers, drawing
            part.connect()

    # Handlers

    def draw(
        self, request: gr.Request, corpus_id: Any, layer: Any, *values_and_stamp: Any, retry: bool = False
    ) -> Changes:
        """What has changed since the stamp, of the tab that is open; analyses that it misses are queued."""
        *values, known = values_and_stamp
        picked = dict(zip(self.own_picks, values, strict=True))
        topics = [f"run-{address_id(request, 'run') or 0}", *(t for part in self.parts for t in part.topics(picked))]
        watching = self.watching(*dict.fromkeys(topics))
        run, problem = asked_for(request, "run", "Run", self.store.runs.get)
        if run is None:
            return {} if known == "none" else self._nothing(problem)
        if run.status == JobStatus.QUEUED:  # its place among the jobs is shown
            watching = self.watching(*dict.fromkeys([*topics, "jobs"]))
        title = self.open_title(request, run)
        look = self._look(request, run, corpus_id, layer, picked)
        parts = [part for part in self.parts if part.title == title]
        is_early = run.summary is None
        found: list[Found] = [
            {}
            if is_early and part.needs_adapter
            else {name: ask(self.store, wanted, again=retry) for name, wanted in part.wants(look).items()}
            for part in parts
        ]
        newest, answers = self.store.runs.newest(run.id), asked_answers(self.store, run)
        now = repr((title, look.on, layer, values, progress_of(found), [part.state(look) for part in parts]))
        now += self._state_of(run, newest, answers)
        if now == known:
            return {}
        changes: Changes = {self.watch: watching, self.stamp: now, **self._top(run, newest, answers, title)}
        changes |= {**self._choices(look, chosen_text(layer)), **self._buttons(run, found)}
        for part, analyses in zip(parts, found, strict=True):
            changes |= part.early() if is_early and part.needs_adapter else part.show(look, analyses)
        return changes

    def open_title(self, request: gr.Request, run: Run) -> str:
        """The tab that the address names; else the answers of a run that has some, or how the training goes."""
        asked = request.query_params.get("tab", "")
        named = next((part.title for part in self.parts if slug(part.title) == asked), None)
        if named is not None:
            return named
        if run.summary is None:
            return "Training"
        return "Answers" if run.corpus_id is not None and not run.is_imported else "Weights"

    def _look(self, request: gr.Request, run: Run, corpus_id: Any, layer: Any, picked: dict[Any, Any]) -> Look:
        on = self.store.analyses.measured_on(run, chosen_id(corpus_id))
        names = layer_names(self.store, run, on)
        chosen = chosen_text(layer)
        return Look(self.store, run, chosen if chosen in names else "", picked, on, names, request.query_params)

    def _state_of(self, run: Run, newest: Step | None, answers: Analysis | None) -> str:
        """All that stands above the tabs, in short."""
        jobs = [job for job in (run.job, answers and answers.job) if job]
        work = [(job.id, job.status, job.progress, words_of(job), job.attempt) for job in jobs]
        ahead = place_of(self.store, run.job) if run.job and run.status == JobStatus.QUEUED else 0
        return repr((run.id, run.name, run.corpus_id, work, newest and (newest.step, newest.numbers), ahead))

    def _top(self, run: Run, newest: Step | None, answers: Analysis | None, title: str) -> Changes:
        """What stands above the tabs."""
        training_set = self.store.runs.training_set(run.id)
        titles = list(dict.fromkeys(part.title for part in self.parts))
        notes = "" if title == "Chat" else run_state(run, training_set)
        return {
            self.list: runs_list(self.store, run),
            self.head: headline(self.store, run, newest, answers, is_small=title == "Chat"),
            self.state: cards.join(progress_sheet(self.store, run, newest, training_set), notes),
            self.detail: gr.update(visible=True),
            self.bar: {"tabs": [[slug(each), each] for each in titles], "current": slug(title)},
            self.tabs: gr.Tabs(selected=slug(title)),
        }

    def _choices(self, look: Look, layer: str) -> Changes:
        """The corpora to measure on and the layers, of which one that is chosen meanwhile stays."""
        layers = [ALL_LAYERS, *((short_layer(name), name) for name in look.names)]
        moved: dict[str, Any] = {} if look.layer == layer else {"value": look.layer}
        own = OWN_CORPUS if look.run.corpus_id is not None else ("no corpus", OWN)
        return {
            self.choosers.corpus: gr.Dropdown(choices=[own, *corpus_choices(self.store)]),
            self.choosers.layer: gr.Dropdown(choices=layers, **moved),
        }

    def _buttons(self, run: Run, found: list[Found]) -> Changes:
        """What can be done about the training, and about analyses that failed, run or wait."""
        running, waiting = jobs_in(found, {JobStatus.RUNNING}), jobs_in(found, {JobStatus.QUEUED})
        job = run.job
        at_work = bool(job and not job.is_finished)
        return {
            self.stop: gr.Button(visible=at_work, interactive=run.status != JobStatus.STOPPING),
            self.resume: gr.Button(
                "Look for its base again" if misses_base(run) else "Resume", visible=can_resume(run)
            ),
            self.smaller: gr.Button(smaller_words(run), visible=run.can_shrink),
            self.again: gr.update(visible=bool(jobs_in(found, ENDED_BADLY))),
            self.stop_looks: gr.Button(STOP if running else CANCEL, visible=bool(running or waiting)),
        }

    def _nothing(self, problem: str) -> Changes:
        """The page of an address that names no run."""
        return {
            self.list: runs_list(self.store, None),
            self.head: no_run(problem),
            self.state: "",
            self.detail: gr.update(visible=False),
            **{button: gr.update(visible=False) for button in (self.stop, self.resume, self.smaller)},
            self.stamp: "none",
        }

    def try_again(self, request: gr.Request, *picks: Any) -> Changes:
        """Queue the analyses that failed once more."""
        return self.draw(request, *picks, "", retry=True)

    def stop_all(self, request: gr.Request) -> None:
        """Stop the analyses of the run, those that wait too."""
        for job in self.store.queue.jobs(statuses=[JobStatus.QUEUED, JobStatus.RUNNING]):
            if job.run_id == address_id(request, "run") and "analysis_id" in job.payload:
                self.store.queue.stop(job.id)

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
