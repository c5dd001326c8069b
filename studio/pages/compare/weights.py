"""Compare, Weights: what adapters of one base read, write and change, and the matrices of all on one plane."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.plain import without_paths
from jobs.breakdown import describe_breakdown, find_breakdown
from jobs.store.records import Analysis, Run
from jobs.store.run_list import RunLine
from studio import cards
from studio.cards import Markup
from studio.comparison.address import written
from studio.pages.compare.asked import LAYOUTS, MATRICES, PARTS
from studio.pages.compare.experts import named_state
from studio.pages.compare.tab import CompareTab, Look
from studio.pages.controls import choice_row, select
from studio.pages.page import Changes
from studio.pages.run.map import map_params
from studio.pages.run.tab import ask, source
from studio.widgets import Addressed, FigurePanel, figure

Pair = tuple[Analysis | None, Analysis | None]
WHY = (
    "Raw heads of two runs are never compared: (B, A) and (B Q, Q⁻¹ A) are the same adapter for any invertible Q, so "
    "equal adapters can look unlike and unlike ones alike. What A reads, what the heads write and the product B A do "
    "not depend on Q."
)
MOST = 12  # runs compared together
# One LoRA for each cluster, all from the same random numbers or each from its own: the act that trains them, in words.
BREAKDOWNS = {False: ("breakdown", "one seed"), True: ("breakdown-own", "own seeds")}


class WeightsTab(CompareTab):
    """The comparison of the finished runs of one base, measured when the tab is looked at."""

    name = "weights"

    def layout(self) -> None:
        self.head = Addressed(elem_id="compare-weights")
        with gr.Row():
            with gr.Column(min_width=320):
                self.together = FigurePanel(height=320, elem_id="weights-together")
            with gr.Column(min_width=320):
                self.by_layer = FigurePanel(height=320, elem_id="weights-by-layer")
        self.plane = FigurePanel(height=440, elem_id="weights-map")

    def live(self) -> list[Any]:
        return [self.head, self.together, self.by_layer, self.plane]

    def state(self, look: Look) -> Any:
        lines, _ = comparable(look.compared.lines)
        found, _ = self._found(lines, look)
        return [(one.id, one.job.status, round(one.job.progress, 2)) if one and one.job else None for one in found]

    def _found(self, lines: list[RunLine], look: Look) -> tuple[Pair, str]:
        """The comparison and the map, queued where they were never asked for; or why there are none."""
        if len(lines) < 2:
            return (None, None), "Choose two finished runs or more of one base."
        first, rest = lines[0].id, {"other_runs": [line.id for line in lines[1:]]}
        params = map_params(look.asked.matrices, look.asked.arrange, "subspace", 0)
        try:
            compared = ask(self.store, (first, "compare", rest))
            return (compared, ask(self.store, (first, "map", params | rest))), ""
        except UserError as problem:  # the queue is full
            return (None, None), without_paths(str(problem))

    def show(self, look: Look) -> Changes:
        lines, left = comparable(look.compared.lines)
        (compared, together), why = self._found(lines, look)
        head = cards.join(
            _options(look),
            *(cards.note("info", words) for words in left),
            cards.note("info", why) if why else named_state("compare", compared),
            named_state("map", together) if together else "",
            Markup(
                f"<details class='hy-more'><summary>What can be compared across runs</summary><p>{WHY}</p></details>"
            ),
            self._breakdowns(lines),
        )
        if why:
            empty = figure(None, why)
            return {self.head: head, self.together: empty, self.by_layer: empty, self.plane: empty}
        return {
            self.head: head,
            self.together: source(compared, "runs", part=look.asked.part),
            self.by_layer: source(compared, "by_layer"),
            self.plane: source(together, "map"),
        }

    def _breakdowns(self, lines: list[RunLine]) -> Markup:
        """The way to one LoRA for each cluster, from one seed and from seeds of their own."""
        if not lines or lines[0].is_imported or lines[0].corpus_id is None:
            return Markup("")
        run = self.store.runs.get(lines[0].id)
        return cards.join(*(self._breakdown(run, own_seeds=own) for own in BREAKDOWNS))

    def _breakdown(self, run: Run, *, own_seeds: bool) -> Markup:
        """The comparison of a breakdown where it is trained, how far it is, or the button that trains it."""
        act, kind = BREAKDOWNS[own_seeds]
        found = find_breakdown(self.store, run, own_seeds=own_seeds)
        told = describe_breakdown(found)
        if told["done"]:
            address = f"/compare?runs={written(told['runs'])}&by=run&tab=weights"
            return Markup(f"<p class='hy-quiet'>{cards.link(address, f'Compare one LoRA per cluster ({kind})')}</p>")
        if any(one.job and not one.job.is_finished for one in found):
            states = f"{len(told['finished'])} of {len(found)} are finished"
            return Markup(f"<p class='hy-quiet'>One LoRA per cluster ({kind}) is being trained: {states}.</p>")
        command = f"python -m studio inspect {run.id} --breakdown{' --own-seeds' * own_seeds}"
        return Markup(
            f"<div class='hy-actions'><span><button type='button' class='hy-btn' data-act='{act}' "
            f"data-of='{run.id}'>Train one LoRA per cluster ({kind})</button><code>{command}</code></span></div>"
        )


def comparable(lines: list[RunLine]) -> tuple[list[RunLine], list[str]]:
    """The finished runs on the base of the first one, ``MOST`` of them, and what is left out as sentences."""
    finished = [line for line in lines if line.summary is not None]
    kept = [line for line in finished if line.base == finished[0].base]
    left = []
    if len(finished) < len(lines):
        left.append(f"{len(lines) - len(finished):,} runs are not finished; they are left out.")
    if len(kept) < len(finished):
        left.append(f"{len(finished) - len(kept):,} runs have another base; weights of two bases are not comparable.")
    if len(kept) > MOST:
        left.append(f"The weights of the first {MOST} of {len(kept):,} runs are compared.")
    return kept[:MOST], left


def _options(look: Look) -> Markup:
    asked = look.asked
    parts = [
        select("part", "Alike in", PARTS, asked.part),
        select("matrices", "Map of", MATRICES, asked.matrices),
        select("arrange", "Layout", LAYOUTS, asked.arrange),
    ]
    return choice_row(*parts)
