"""Compare, Cost: what quality costs, and all settings and scores as parallel coordinates."""

from __future__ import annotations

from typing import Any

from studio.comparison.drawings import COSTS
from studio.pages.compare.tab import CompareTab, Look
from studio.pages.controls import choice_row, select
from studio.pages.page import Changes
from studio.widgets import Addressed, FigurePanel, figure


class CostTab(CompareTab):
    """Cost against quality."""

    name = "cost"

    def layout(self) -> None:
        self.options = Addressed(elem_id="cost-options")
        self.cost = FigurePanel(height=380, elem_id="compare-cost")
        self.parallel = FigurePanel(height=380, elem_id="compare-parallel")

    def live(self) -> list[Any]:
        return [self.options, self.cost, self.parallel]

    def show(self, look: Look) -> Changes:
        asked = look.asked
        costs = {name: words.capitalize() for name, (words, _) in COSTS.items()}
        return {
            self.options: choice_row(select("cost", "Cost", costs, asked.cost)),
            self.cost: figure(asked.figure("cost", look.version, cost=asked.cost)),
            self.parallel: figure(asked.figure("parallel", look.version)),
        }
