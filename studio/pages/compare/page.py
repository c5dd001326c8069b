"""Compare: any selection of runs beside each other; the address names the runs and everything that is chosen."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.breakdown import start_breakdown
from jobs.repeats import start_equal_lora, start_seeds
from jobs.store.run_list import RunLine, RunQuery
from studio.comparison.address import parse_ids, written
from studio.comparison.desk import Desk
from studio.comparison.groups import SETTINGS, Compared
from studio.comparison.scores import score_rows
from studio.comparison.tables import speeds_of
from studio.comparison.verdict import verdict_of
from studio.pages.common import ACT, TICK, chosen_text
from studio.pages.compare.answers import AnswersTab
from studio.pages.compare.asked import Asked, asked_of
from studio.pages.compare.cost import CostTab
from studio.pages.compare.experts import ExpertsTab
from studio.pages.compare.scores import ScoresTab
from studio.pages.compare.tab import CompareTab, Look
from studio.pages.compare.views import LISTED, SEEDS, nothing, run_list, top
from studio.pages.compare.weights import WeightsTab
from studio.pages.page import Changes, Page
from studio.widgets import Addressed, LiveChanges

PARTS: tuple[type[CompareTab], ...] = (ScoresTab, AnswersTab, ExpertsTab, WeightsTab, CostTab)
# Opens the address with other runs, which have just been started.
WITH_RUNS = (
    "(runs) => { if (!runs) return; const to = new URL(location); to.searchParams.set('runs', runs); "
    "location.assign(to); }"
)


class ComparePage(Page):
    """The runs that the address names."""

    title = "Compare"
    path = "compare"

    def layout(self) -> None:
        self.watch = LiveChanges()
        self.desk = Desk(self.store)
        with gr.Row(elem_classes="hy-listed"):
            with gr.Column(scale=0, min_width=236):
                self.list = Addressed(elem_id="compare-list")
            with gr.Column(scale=1, min_width=320):
                self.top = Addressed(elem_id="compare-top")
                self.tabs: list[CompareTab] = []
                self.columns: list[gr.Column] = []
                for kind in PARTS:
                    with gr.Column(visible=False) as column:
                        self.tabs.append(kind(self.blocks, self.store))
                    self.columns.append(column)
        self.stamp, self.opened = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def connect(self) -> None:
        self.controls = [self.list, self.top]
        parts = [part for tab in self.tabs for part in tab.live()]
        self.controls += [part for part in parts if isinstance(part, Addressed)]
        live = [self.watch, self.list, self.top, *self.columns, *parts, self.stamp]
        self.on_change(self.watch, self.draw, self.stamp, live)
        for control in self.controls:
            control.input(self.draw, self.stamp, live, **TICK)
            control.select(self.act, self.stamp, [*live, self.opened], **ACT).then(
                None, self.opened, None, js=WITH_RUNS
            )

    # Handlers

    def draw(self, request: gr.Request, known: str) -> Changes:
        """Everything that has changed since ``known``."""
        watching, asked = self.watching("runs", "corpora"), asked_of(request)
        compared, asked = self._compared(asked)
        others = self.store.run_list.page(RunQuery(text=asked.find))
        chosen = set(asked.ids)
        rest = [line for line in others.lines if line.id not in chosen][:LISTED]
        whole = others.whole
        look = Look(compared, asked, _version(compared)) if compared else None
        tab = next(tab for tab in self.tabs if tab.name == asked.tab)
        now = repr((asked, look and look.version, [(line.id, line.status) for line in rest], whole))
        now += repr(tab.state(look)) if look else ""
        if now == known:
            return {self.watch: watching}
        changes: Changes = {
            self.watch: watching,
            self.list: run_list(compared, rest, asked, whole),
            self.stamp: now,
            **{
                column: gr.Column(visible=bool(look) and tab is one)
                for one, column in zip(self.tabs, self.columns, strict=True)
            },
        }
        if look is None:
            return {**changes, self.top: nothing(asked, has_runs=whole > 0)}
        return {**changes, self.top: self._top(look), **tab.show(look)}

    def _compared(self, asked: Asked) -> tuple[Compared | None, Asked]:
        """The runs in groups, by their settings where the address asks for something else that they have not."""
        if not asked.ids:
            return None, asked
        try:
            found = self.desk.compared(asked.ids, asked.by)
        except UserError:
            found = self.desk.compared(asked.ids, SETTINGS)
        return (found if found.lines else None), Asked(**{**vars(asked), "by": found.by})

    def _top(self, look: Look) -> str:
        rows = score_rows(look.compared, speeds_of(self.store, look.compared))
        return top(look.compared, verdict_of(look.compared, rows), look.asked)

    def act(self, request: gr.Request, known: str, event: gr.EventData) -> Changes:
        """What a control asks for, then everything that has changed."""
        sent: dict[str, Any] = event._data if isinstance(event._data, dict) else {}
        act, ids = chosen_text(sent.get("act")), parse_ids(chosen_text(sent.get("of")))
        if not act:
            return {**self.draw(request, known), self.opened: ""}
        acts: dict[str, Callable[[Asked, list[int]], str]] = {
            "ask": self.ask,
            "seeds": self.again,
            "equal": self.equal,
            "breakdown": self.break_down,
            "breakdown-own": partial(self.break_down, own_seeds=True),
        }
        if act not in acts:
            raise UserError(f"There is nothing called {shown(act)} to do here. Reload the page.")
        opened = acts[act](asked_of(request), ids)
        return {self.opened: opened} if opened else {**self.draw(request, ""), self.opened: ""}

    def ask(self, asked: Asked, ids: list[int]) -> str:
        """Queue the unseen questions for runs that were never asked."""
        for run_id in ids:
            self.store.analyses.ask(run_id, "answers", {})
        gr.Info(f"The questions of {len(ids):,} {'run is' if len(ids) == 1 else 'runs are'} queued.")
        return ""

    def again(self, asked: Asked, ids: list[int]) -> str:
        """Queue what is missing of seeds 1 to 4; the runs to compare then."""
        return self._with(asked, [run.id for run in start_seeds(self.store, ids, SEEDS)])

    def equal(self, asked: Asked, ids: list[int]) -> str:
        """Queue the LoRA of equal size; the runs to compare then."""
        return self._with(asked, [start_equal_lora(self.store, run_id).id for run_id in ids[:1]])

    def break_down(self, asked: Asked, ids: list[int], *, own_seeds: bool = False) -> str:
        """Queue one LoRA for each cluster."""
        for run_id in ids[:1]:
            start_breakdown(self.store, run_id, own_seeds=own_seeds)
        gr.Info("One run for each cluster is queued.")
        return ""

    def _with(self, asked: Asked, more: list[int]) -> str:
        return written(dict.fromkeys([*asked.ids, *more]))


def _version(compared: Compared) -> int:
    """A number that changes with what is stored of the runs."""
    return zlib.crc32(repr([_state(line) for line in compared.lines]).encode()) & 0xFFFFFF


def _state(line: RunLine) -> tuple[Any, ...]:
    score = (line.score.analysis_id, line.score.exact) if line.score else None
    return line.id, line.name, line.status, round(line.progress, 2), line.summary is not None, score, line.tags
