"""Bases: the language models that adapters are trained into; what each needs, and whether that fits here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from hydralora.bases.folder import is_hub_id
from hydralora.errors import UserError
from hydralora.plain import shown, without_paths
from jobs.machine import look_at_machine
from jobs.new_bases import KIND, extend_base, take_base
from jobs.store.bases import is_hub_allowed
from jobs.store.status import JobStatus
from studio import cards
from studio.cards import Markup
from studio.pages.bases.views import Known, base_cards, bases_list, bases_table, check_view, known_base, tokens_command
from studio.pages.common import chosen_text, go_to, job_state
from studio.pages.new_run.offer import BaseOffer
from studio.pages.page import Changes, Page, refuse_unsure
from studio.silence import words_of
from studio.widgets import LiveChanges

LEAD = "A base is the language model that an adapter is trained into. It stays as it is; every run on it shares it."
BY_COMMAND = "python -m studio bases add FOLDER"
FOLDERS = Markup(
    "<p class='hy-quiet'>A folder of this computer (config.json, tokenizer, safetensors) is brought here by command: "
    f"<code>{BY_COMMAND}</code>.</p>"
)


class BasesPage(Page):
    """All bases, and the one that the address names."""

    title = "Bases"
    path = "bases"

    # Drawing

    def layout(self) -> None:
        self.watch = LiveChanges()
        with gr.Row():
            with gr.Column(scale=0, min_width=236):
                gr.HTML(cards.side("Bases", "/bases", "Add a base"))
                self.list = gr.HTML()
            with gr.Column(scale=1, min_width=320):
                self.nothing = gr.HTML()
                with gr.Column() as self.adding:
                    self._add()
                with gr.Column(visible=False) as self.detail:
                    self._one()
        self.stamp, self.opened = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def _add(self) -> None:
        gr.HTML(Markup(f"<p class='hy-quiet'>{LEAD}</p>"))
        self.table = gr.HTML()
        self.offer = BaseOffer(self.blocks, self.store)
        self.work = gr.HTML()
        with gr.Row():
            with gr.Column(min_width=300):
                self.file = gr.File(label="A GGUF file", file_types=[".gguf"], height=120, elem_id="base-file")
                self.name = gr.Textbox(label="Name", placeholder="taken from the file when left empty", max_lines=1)
                self.add = gr.Button("Add this base", elem_id="add-base")
            with gr.Column(min_width=300, visible=is_hub_allowed()):
                self.hub = gr.Textbox(
                    label="Or a model of the Hugging Face hub",
                    placeholder="owner/name",
                    info="It is fetched and checked. For a private one, HF_TOKEN is set where the studio is started.",
                    max_lines=1,
                    elem_id="hub-base",
                )
                self.fetch = gr.Button("Fetch and check", elem_id="fetch-base")
        gr.HTML(FOLDERS)

    def _one(self) -> None:
        self.head, self.facts = gr.HTML(), gr.HTML()
        with gr.Row():
            self.check = gr.Button("Check", variant="primary", scale=0, min_width=120, elem_id="check-base")
        self.found = gr.HTML()
        with gr.Accordion("Add tokens", open=False), gr.Row(equal_height=False):
            self.tokens = gr.Textbox(
                label="New tokens, one a line",
                info="Texts that become one token each, in a base of its own. A run on it trains them where “Tokens "
                "trained” names them.",
                placeholder="<tool>",
                lines=3,
                max_lines=12,
                min_width=260,
                elem_id="new-tokens",
            )
            with gr.Column(min_width=220):
                self.longer = gr.Textbox(label="Name", placeholder="made from this base's when left empty", max_lines=1)
                self.extend = gr.Button("Make the base", elem_id="extend-base")
                self.command = gr.HTML()
        with gr.Accordion("Remove", open=False, visible=False) as self.removing, gr.Row():
            self.sure = gr.Checkbox(False, label="Yes, take it off the list", min_width=200, scale=0)
            self.remove = gr.Button("Remove", variant="stop", scale=0, min_width=130, elem_id="remove-base")
        self.uses = gr.HTML()

    # Events

    def connect(self) -> None:
        live = [self.watch, self.list, self.nothing, self.adding, self.table, *self.offer.drawn, self.work, self.stamp]
        live += [self.detail, self.head, self.facts, self.found, self.command, self.removing, self.uses]
        self.on_change(self.watch, self.draw, self.stamp, live)
        self.on_click(self.offer.get, self.offer.start, None, self.offer.drawn)
        self.on_click(self.add, self.add_file, [self.file, self.name], [self.file, self.name, self.stamp])
        opening = {"fn": None, "inputs": self.opened, "outputs": None, "js": go_to("/bases", "base")}
        self.on_click(self.fetch, self.fetch_hub, self.hub, [self.opened, self.hub]).success(**opening)
        self.on_click(self.check, self.start_check, None, self.stamp)
        self.on_click(self.extend, self.add_tokens, [self.tokens, self.longer], [self.tokens, self.longer]).success(
            None, None, None, js="() => location.assign('/bases')"
        )
        self.on_click(self.remove, self.remove_base, self.sure, None).success(
            None, None, None, js="() => location.assign('/bases')"
        )

    # Handlers

    def draw(self, request: gr.Request, known: str = "") -> Changes:
        """The list, and what is known of the chosen base; nothing where all is as ``known``."""
        name, machine = _asked(request), look_at_machine()
        every = [known_base(self.store, one) for one in self._names(name)]
        one = next((base for base in every if base.name == name), None)
        jobs = self.store.queue.jobs(kind=KIND, limit=20)
        check = self.store.base_checks.job(name) if name else None
        states = [(job.id, job.status, round(job.progress, 2), words_of(job)) for job in [*jobs, check] if job]
        now = repr((name, every, states))
        if now == known:
            return {self.list: bases_list(every, machine, name)}
        return {
            self.watch: self.watching("jobs", "settings"),
            self.list: bases_list(every, machine, name),
            self.nothing: cards.empty(f"There is no base {shown(name)}", LEAD) if name and one is None else "",
            self.adding: gr.Column(visible=one is None),
            self.table: bases_table(every, machine),
            **self.offer.draw(),
            self.work: cards.join(*(job_state(job) for job in jobs if not job.is_finished or self._failed(job))),
            self.stamp: now,
            **(self._draw_one(one) if one else {self.detail: gr.Column(visible=False)}),
        }

    def _failed(self, job: Any) -> bool:
        newest = self.store.queue.jobs(kind=KIND, limit=1)
        return job.status == JobStatus.FAILED and "packaged" not in job.payload and newest[0].id == job.id

    def _draw_one(self, one: Known) -> Changes:
        used = [run for run in self.store.runs.all() if self.store.bases.name_of(run.base) == one.name]
        runs = cards.listed(cards.link(f"/run?run={run.id}", run.name) for run in used[:20])
        train = Markup(f"<a class='hy-go' href='/new-run?base={cards.text(one.name)}'>Train on this</a>")
        facts = one.facts
        what = f"{facts.architecture}, {'a' if facts.has_template else 'no'} chat template" if facts else ""
        top = cards.join(cards.head(one.name, what), train if facts else "")
        figures = (
            base_cards(facts, look_at_machine())
            if facts
            else cards.note("info", "Its files are not here.", one.problem)
        )
        known = self.store.base_checks
        return {
            self.detail: gr.Column(visible=True),
            self.head: Markup(f"<div class='hy-opened'>{top}</div>"),
            self.facts: figures,
            self.found: check_view(known.latest(one.name), known.job(one.name)),
            self.command: tokens_command(one.name),
            self.removing: gr.Accordion(visible=any(base.name == one.name for base in self.store.bases.all())),
            self.uses: cards.join(Markup("<p class='hy-quiet'>Runs on it: "), runs, Markup("</p>")) if used else "",
        }

    def _names(self, name: str) -> list[str]:
        """The bases of the list, and a hub id that the address names."""
        names = self.store.base_checks.names()
        is_hub = is_hub_id(name) and is_hub_allowed()
        return [*names, name] if is_hub and name not in names else names

    def add_file(self, file: Any, name: Any) -> Changes:
        """Queue the conversion of an uploaded file."""
        if not isinstance(file, str):
            raise UserError("No file is chosen. Choose a GGUF file first.")
        take_base(self.store, Path(file), chosen_text(name).strip())
        return {self.file: None, self.name: "", self.stamp: ""}

    def fetch_hub(self, given: Any) -> Changes:
        """Queue the check of a model of a hub, which fetches it, and open its page."""
        name = chosen_text(given).strip()
        if not is_hub_id(name):
            raise UserError(f"A model of the hub is named owner/name, got {shown(name)}.")
        self.store.base_checks.add(name)
        return {self.opened: name, self.hub: ""}

    def start_check(self, request: gr.Request) -> Changes:
        """Queue a check of the base that the address names."""
        self.store.base_checks.add(_asked(request))
        return {self.stamp: ""}

    def add_tokens(self, request: gr.Request, given: Any, name: Any) -> Changes:
        """Queue a base like the one that the address names, with more tokens."""
        tokens = [line.strip() for line in chosen_text(given).splitlines() if line.strip()]
        extend_base(self.store, _asked(request), tokens, chosen_text(name).strip())
        return {self.tokens: "", self.longer: ""}

    def remove_base(self, request: gr.Request, is_sure: Any) -> None:
        """Take it off the list, where the box is ticked; the studio's own copy is deleted."""
        refuse_unsure(is_sure)
        name = _asked(request)
        if all(base.name != name for base in self.store.bases.all()):
            raise UserError(without_paths(f"There is no base {shown(name)} on the list."))
        self.store.bases.remove(name)


def _asked(request: gr.Request | None) -> str:
    """The base that the address names; empty where it names none."""
    value = request.query_params.get("base") if request else None
    return chosen_text(value)[:200] if value else ""
