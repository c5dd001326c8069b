"""Compare, Scores: curves laid over each other, intervals, the table of scores, settings that differ, clusters."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import cards
from studio.cards import Markup
from studio.comparison.clusters import cluster_rows
from studio.comparison.drawings import CURVES
from studio.comparison.scores import score_rows
from studio.comparison.tables import speeds_of
from studio.pages.compare.tab import CompareTab, Look
from studio.pages.compare.tables import clusters_section, score_table, settings_section
from studio.pages.controls import choice_row, look_controls, look_query, select, switch
from studio.pages.page import Changes
from studio.widgets import Addressed, FigurePanel, figure


class ScoresTab(CompareTab):
    """What was measured of every group."""

    name = "scores"

    def layout(self) -> None:
        self.options = Addressed(elem_id="curve-options")
        with gr.Row():
            with gr.Column(min_width=320):
                self.curves = FigurePanel(height=300, elem_id="compare-curves")
            with gr.Column(min_width=320):
                self.intervals = FigurePanel(height=300, elem_id="compare-intervals")
        self.tables = gr.HTML(elem_id="compare-tables")

    def live(self) -> list[Any]:
        return [self.options, self.curves, self.intervals, self.tables]

    def show(self, look: Look) -> Changes:
        asked, compared = look.asked, look.compared
        curves = asked.figure("curves", look.version, of=asked.of, **look_query(asked.drawn))
        _, clusters, why = cluster_rows(self.store, compared)
        return {
            self.options: curve_options(look),
            self.curves: figure(curves),
            self.intervals: figure(asked.figure("intervals", look.version)),
            self.tables: cards.join(
                score_table(compared, score_rows(compared, speeds_of(self.store, compared)), asked),
                settings_section(compared, asked),
                clusters_section(compared, clusters, why, asked),
            ),
        }


def curve_options(look: Look) -> Markup:
    """How the curves are drawn."""
    asked = look.asked
    of = {name: quantity.capitalize() for name, (_, quantity, *_) in CURVES.items()}
    parts = [
        select("of", "Curve", of, asked.of),
        *look_controls(asked.drawn),
        switch("single", "Single runs", asked.drawn.single),
    ]
    return choice_row(*parts)
