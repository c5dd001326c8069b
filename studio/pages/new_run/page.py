"""New run: corpus, base, method, preset; one click starts the training."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from hydralora.config import TrainConfig
from hydralora.corpus.quality import DECIDING
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.training.presets import PRESETS
from jobs.store.bases import is_hub_allowed
from studio import cards
from studio.cards import Markup
from studio.estimate import settings_of
from studio.form import BASIC, collect, field_input, method_fields, train_fields
from studio.pages.common import (
    ACT,
    FIELDS,
    TICK,
    chosen_id,
    chosen_text,
    corpus_choices,
    fill_untouched,
    forget_touched,
    go_to,
    known_bases,
)
from studio.pages.new_run.data import DataNote
from studio.pages.new_run.fit import DECIDING as TAKING_MEMORY
from studio.pages.new_run.fit import BaseNote
from studio.pages.new_run.groups import grouped
from studio.pages.new_run.imports import ImportPart
from studio.pages.new_run.offer import BaseOffer
from studio.pages.new_run.opening import OWN, Opening
from studio.pages.new_run.pace import DECIDING as TAKING_TIME
from studio.pages.new_run.pace import PaceNote, place_of
from studio.pages.new_run.views import (
    about_corpus,
    about_method,
    known_method,
    published_choices,
    shown_fields,
)
from studio.pages.page import Changes, Page
from studio.widgets import Choice, LiveChanges

LEAD = "Choose a corpus and press Start. Everything else has a sensible value already."
BASE_INFO = "starter, or one of the list (`python -m studio bases add`)"
HUB_INFO = ", or a hub id such as owner/name"
# Who types a number has chosen it: the preset is theirs too, and no later filling takes it back.
KEEP_OWN = f"async () => {{ ({FIELDS}).keep(['run-preset']); return {json.dumps(OWN)}; }}"


class NewRunPage(Page):
    """The form of a run; every setting comes from the settings classes (``studio.form``)."""

    title = "New run"
    path = "new-run"
    section = "/runs"

    # Drawing

    def layout(self) -> None:
        gr.HTML(cards.head("New run", LEAD))
        self.watch = LiveChanges({"of": "speeds,jobs,corpora"})
        self.problem = gr.HTML()
        self._corpus()
        self._base_and_method()
        self.preset = gr.Radio(
            [*PRESETS, OWN],
            value="Quick",
            label="Training budget",
            elem_id="run-preset",
            info=" · ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items()),
        )
        self.options, self.training = method_fields(), train_fields()
        self.inputs: dict[str, Any] = {}
        with gr.Row():
            self._draw_fields(BASIC)
        self.pace = PaceNote(self.blocks, self.store)
        self.data = DataNote(self.blocks, self.store)
        # It can be pressed once the form is filled: before, it would start nothing, or what nobody has chosen.
        self.start = gr.Button("Start training", variant="primary", size="lg", elem_id="start-run", interactive=False)
        self._expert_settings()
        self.imports = ImportPart(self.blocks, self.store)
        self.opened = gr.Textbox(visible=False)
        # What the studio wants to set, as JSON: the browser puts it into the fields that nobody has touched.
        self.filled = gr.Textbox(visible=False)

    def _corpus(self) -> None:
        with gr.Row():
            self.corpus = Choice([], label="Corpus", min_width=260, elem_id="run-corpus")
            self.name = gr.Textbox(
                label="Name of the run", placeholder="method on corpus, when left empty", max_lines=1, min_width=260
            )
        self.corpus_note = gr.HTML()

    def _base_and_method(self) -> None:
        with gr.Row():
            self.base = Choice(
                ["starter"],
                value="starter",
                allow_custom_value=is_hub_allowed(),
                label="Base model",
                min_width=260,
                elem_id="run-base",
                info=BASE_INFO + (HUB_INFO if is_hub_allowed() else ""),
            )
            self.method = gr.Dropdown(
                [(method.title, method.name) for method in METHODS.values()],
                value="hydralora",
                label="Method",
                min_width=260,
                info="How the adapter is built",
                elem_id="run-method",
            )
        self.fit = BaseNote(self.blocks, self.store)
        self.offer = BaseOffer(self.blocks, self.store)
        self.method_note = gr.HTML(about_method("hydralora"))

    def _expert_settings(self) -> None:
        with gr.Accordion("Expert settings", open=False, elem_id="expert-settings"):
            self.published = Choice(
                [],
                label="Published settings of this method",
                info="Fills in what a paper or its script used",
                min_width=200,
            )
            gr.Markdown("**Adapter**")
            with gr.Row():
                self._draw_fields(name for name in self.options if name not in BASIC)
            for title, names in grouped(self.training).items():
                gr.Markdown(f"**{title}**")
                with gr.Row():
                    self._draw_fields(names)

    def _draw_fields(self, names: Any) -> None:
        for name in names:
            self.inputs[name] = field_input(name, {**self.options, **self.training}[name])

    # Events

    def connect(self) -> None:
        self.adapter_inputs = [self.inputs[name] for name in self.options]
        self.train_inputs = [self.inputs[name] for name in self.training]
        filling = [self.corpus, self.base, self.method, self.preset, *self.inputs.values()]
        self.filling: dict[str, Any] = {
            "fn": None,
            "inputs": self.filled,
            "outputs": filling,
            "js": fill_untouched(filling),
        }
        self._connect_choices()
        self._connect_estimate()
        self._connect_data()
        self.imports.connect()
        parts = [self.problem, self.corpus, self.corpus_note, self.base, self.method_note, self.published, self.start]
        opened = self.on_open(self.load, None, [*parts, *self.adapter_inputs, self.filled]).then(**self.filling)
        opened.then(self.pace.look, *self._looking(), **TICK)
        given = [self.corpus, self.name, self.base, self.method, *self.inputs.values()]
        self.on_click(self.start, self.begin, given, self.opened).success(
            None, self.opened, None, js=go_to("/run", "run")
        )

    def _connect_choices(self) -> None:
        by_corpus = [self.corpus_note, self.problem, self.filled]
        by_method = [self.method_note, self.published, *self.adapter_inputs, self.filled]
        self.corpus.input(self.pick_corpus, [self.corpus, self.method], by_corpus, **TICK).then(**self.filling)
        self.method.input(self.pick_method, [self.method, self.corpus], by_method, **TICK).then(**self.filling)
        self.published.input(
            self.pick_published,
            [self.method, self.published],
            self.adapter_inputs,
            js=forget_touched(self.adapter_inputs),
            **TICK,
        )
        self.preset.input(
            self.pick_preset,
            [self.preset, self.corpus, self.base, self.method],
            self.train_inputs,
            js=forget_touched(self.train_inputs),
            **TICK,
        )
        self.base.input(
            self.pace.pick_base, [self.preset, self.corpus, self.base, self.method], self.pace.timed, **TICK
        )
        for component in self.train_inputs:
            component.input(None, None, self.preset, js=KEEP_OWN)

    def _connect_estimate(self) -> None:
        pace, asked = self.pace, self._looking()[0][2:]
        for changed in asked[3:]:
            changed.change(pace.guess, asked, [pace.estimate, pace.clock], **ACT)
        pace.timed.change(None, pace.timed, self.train_inputs, js=fill_untouched(self.train_inputs))
        self.on_click(pace.clock, pace.time_steps, asked, [pace.estimate, pace.clock])

    def _connect_data(self) -> None:
        asked = [self.corpus, self.base, *(self.inputs[name] for name in DECIDING)]
        for changed in asked:
            changed.change(self.data.draw, asked, self.data.drawn, **ACT)
        sizes = [self.corpus, self.base, self.method, *(self.inputs[name] for name in TAKING_MEMORY)]
        for changed in sizes:
            changed.change(self.fit.draw, sizes, self.fit.note, **ACT)
        self.on_click(self.offer.get, self.offer.start, None, self.offer.drawn)
        bases = [*self.offer.drawn, self.base]
        self.on_open(self.draw_bases, None, bases)
        news = self.watch.select(self.draw_bases, None, bases, **TICK)
        news = news.then(self.pace.look, *self._looking(), **TICK)
        news.then(self.data.draw, asked, self.data.drawn, **TICK)
        self.on_click(self.data.check, self.data.start, asked, self.data.drawn)

    def _looking(self) -> tuple[list[Any], list[Any]]:
        """Inputs and outputs of ``PaceNote.look``."""
        pace, counts = self.pace, [self.inputs[name] for name in TAKING_TIME]
        asked = [pace.stamp, self.preset, self.corpus, self.base, self.method, *counts]
        return asked, [pace.estimate, pace.clock, pace.stamp, pace.timed]

    # Handlers

    def draw_bases(self) -> Changes:
        """The bases that can be chosen now, and the one that can be had."""
        return {**self.offer.draw(), self.base: gr.Dropdown(choices=known_bases(self.store))}

    def load(self, request: gr.Request) -> Changes:
        """The form as it opens: for the corpus or the run to repeat that the address names, else the newest corpus."""
        opening = Opening.of(self.store, request)
        note, values = opening.filled()
        return {
            self.problem: opening.problem,
            self.corpus: gr.Dropdown(choices=(choices := corpus_choices(self.store))),
            self.corpus_note: note,
            self.base: gr.Dropdown(choices=known_bases(self.store)),
            self.start: gr.Button(interactive=bool(choices)),
            **self._about(values["run-method"]),
            self.filled: json.dumps(values),
        }

    def _about(self, method: str) -> Changes:
        """What a method is, its published settings, and which fields it has."""
        fields = METHODS[method].options.model_fields
        return {
            self.method_note: about_method(method),
            self.published: published_choices(method),
            **{self.inputs[name]: gr.update(visible=name in fields) for name in self.options},
        }

    def pick_corpus(self, corpus_id: int | None, method: str) -> Changes:
        """What is known of the chosen corpus, and the number of experts that its clusters speak for."""
        chosen = chosen_id(corpus_id)
        if chosen is None:
            return {self.corpus_note: Markup(""), self.problem: "", self.filled: ""}
        note, experts = about_corpus(self.store, self.store.corpora.ready(chosen))
        has_experts = "num_experts" in METHODS[known_method(method)].options.model_fields
        fill = json.dumps({"field-num_experts": experts}) if experts and has_experts else ""
        return {self.corpus_note: note, self.problem: "", self.filled: fill}

    def pick_method(self, method: str, corpus_id: int | None) -> Changes:
        """What the chosen method is, with its own settings at their defaults."""
        method, chosen = known_method(method), chosen_id(corpus_id)
        _, experts = about_corpus(self.store, self.store.corpora.ready(chosen)) if chosen else (None, None)
        values = shown_fields(METHODS[method].options, {"num_experts": experts} if experts else {})
        return {**self._about(method), self.filled: json.dumps(values)}

    def pick_published(self, method: str, which: str | None) -> Changes:
        """The settings of a paper or its script."""
        chosen = METHODS[known_method(method)]
        values = shown_fields(chosen.options, chosen.presets.get(chosen_text(which), {}))
        return {self.inputs[name]: values[f"field-{name}"] for name in self.options if f"field-{name}" in values}

    def pick_preset(self, which: str, corpus_id: Any, base: Any, method: Any) -> Changes:
        """What a training budget comes to on this machine."""
        if which not in PRESETS:
            return {}
        chosen = settings_of(self.store, which, place_of(corpus_id, base, method))
        return {self.inputs[name]: chosen[name] for name in self.training}

    def begin(self, corpus_id: int | None, name: str, base: str, method: str, *values: Any) -> Changes:
        """Start the training, and open its page."""
        chosen, method = chosen_id(corpus_id), known_method(method)
        if chosen is None:
            raise UserError("No corpus is chosen. Choose one, or add one under Data.")
        found = dict(zip(self.inputs, values, strict=True))
        config = {
            "base": chosen_text(base).strip() or "starter",
            "method": method,
            "adapter": collect(METHODS[method].options, found),
            "train": collect(TrainConfig, found),
        }
        run = self.store.runs.start(chosen, config, name=chosen_text(name))
        self.store.speeds.give_way()
        return {self.opened: str(run.id)}
