"""Compare, Experts: gates and experts of two runs beside each other."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.plain import without_paths
from jobs.kinds import title_of
from jobs.store.records import Analysis
from jobs.store.run_list import RunLine
from studio import cards
from studio.cards import Markup
from studio.pages.compare.tab import CompareTab, Look, choosers, pair_of
from studio.pages.controls import choice_row
from studio.pages.page import Changes
from studio.pages.run.tab import ask, source, state_of
from studio.widgets import Addressed, FigurePanel, figure

# What stands beside each other: the kind of analysis, its view, what the row shows.
ROWS = (
    ("routing", "layers", "Which expert speaks in which layer"),
    ("routing", "groups", "Which expert speaks in which cluster"),
    ("experts", "groups", "What is lost without an expert, by cluster"),
)
NO_ROUTER = "{} has no router, so that nothing chooses between experts."
Found = dict[str, Analysis | None]


class ExpertsTab(CompareTab):
    """Two runs, each in a column; what is missing is measured when the tab is looked at."""

    name = "experts"

    def layout(self) -> None:
        self.choice = Addressed(elem_id="compare-pair")
        self.rows: list[tuple[FigurePanel, FigurePanel]] = []
        with gr.Row():
            self.heads = [gr.HTML(min_width=320), gr.HTML(min_width=320)]
        for kind, view, title in ROWS:
            gr.HTML(Markup(f"<h3 class='hy-part-title'>{title}</h3>"))
            with gr.Row():
                panels = []
                for side in "ab":
                    with gr.Column(min_width=320):
                        panels.append(FigurePanel(height=200, elem_id=f"{kind}-{view}-{side}"))
            self.rows.append((panels[0], panels[1]))

    def live(self) -> list[Any]:
        return [self.choice, *self.heads, *(panel for row in self.rows for panel in row)]

    def state(self, look: Look) -> Any:
        pair = pair_of(look.compared, look.asked) or ()
        return [
            (one.id, one.job.status, round(one.job.progress, 2)) if one and one.job else None
            for line in pair
            for one in self._found(line)[0].values()
        ]

    def _found(self, line: RunLine) -> tuple[Found, str]:
        """The analyses of a run, queued where they were never asked for; or why there are none."""
        if line.summary is None:
            return {}, f"{line.name} is not finished yet."
        if line.config.adapter.combined_by != "router":
            return {}, NO_ROUTER.format(line.name)
        try:
            return {
                kind: ask(self.store, (line.id, kind, {})) for kind in dict.fromkeys(kind for kind, _, _ in ROWS)
            }, ""
        except UserError as problem:  # no corpus of its own, or the queue is full
            return {}, without_paths(str(problem))

    def show(self, look: Look) -> Changes:
        pair = pair_of(look.compared, look.asked)
        if pair is None:
            empty = figure(None, "Choose two runs or more at the left.")
            panels: Changes = {panel: empty for row in self.rows for panel in row}
            return {self.choice: "", self.heads[0]: "", self.heads[1]: "", **panels}
        changes: Changes = {self.choice: choice_row(*choosers(look.compared, pair))}
        for side, line in enumerate(pair):
            found, why = self._found(line)
            changes[self.heads[side]] = _head("AB"[side], line, found, why)
            for (kind, view, _), panels_of_row in zip(ROWS, self.rows, strict=True):
                shown = (
                    {**source(found.get(kind), view, group="cluster"), "leads": False} if found else figure(None, why)
                )
                changes[panels_of_row[side]] = shown
        return changes


def _head(letter: str, line: RunLine, found: Found, why: str) -> Markup:
    """A run with the sentences of what was measured of it."""
    name = Markup(f"<h3>{letter}: {cards.link(f'/run?run={line.id}', line.name)}</h3>")
    if not found:
        return cards.join(name, Markup(f"<p class='hy-quiet'>{escape(why)}</p>"))
    return cards.join(name, *(named_state(kind, one) for kind, one in found.items()))


def named_state(kind: str, found: Analysis | None) -> Markup:
    """How far an analysis is, or its sentence, with what it is."""
    words = Markup(f"<p class='hy-part-name'>{escape(title_of(kind))}</p>")
    return cards.join(words, state_of(found, "It is measured when the tab is opened."))
