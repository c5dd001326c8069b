"""Routing: who speaks where, for which cluster, for which kind of token, and how that moved."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.methods import METHODS
from hydralora.results import Routing
from jobs.store.records import Run
from studio import cards
from studio.cards import Markup
from studio.figures.base import short_layer
from studio.figures.palette import expert_name
from studio.pages.common import ACT, chosen_id, chosen_text
from studio.pages.page import Changes
from studio.pages.run.tab import (
    NO_CORPUS,
    Found,
    Look,
    Tab,
    Wanted,
    is_cell,
    is_routed,
    on_corpus,
    picked,
    result_of,
    side_by_side,
    source,
    state_of,
    texts_table,
)
from studio.widgets import FigurePanel, figure

TERMS = ("gate", "effective experts", "r2", "chance")
GROUPS = [("clusters", "cluster"), ("labels", "label")]


def routing_cards(found: Routing) -> Markup:
    """Experts that are dead or dominant, and how many share a token."""
    effective, cost = found.effective_experts, found.capture_cost

    def names(experts: list[int]) -> str:
        return ", ".join(expert_name(e) for e in experts) or "none"

    read = f"tokens of {found.examples:,} examples, held-out ones first"
    read += f"; reading the gates cost {max(cost, 0):.0%} of the time" if cost is not None else ""
    at_once = f"{sum(effective) / len(effective):.2f}"
    parts = [
        cards.card("Measured", f"{found.tokens:,}", read),
        cards.card("Effective number of experts", at_once, f"of {found.experts} share a token, on average"),
        cards.card("Dead experts", names(found.dead), "below a quarter of an equal share in every layer"),
        cards.card("Dominant experts", names(found.dominant), "above 90 % of all routing weight"),
    ]
    for kind, group in found.groups.items():
        verdict = "yes" if group.real else "no"
        parts.append(cards.card(f"Follow the {kind}s?", verdict, group.sentence))
    return cards.join(cards.cards(parts), cards.what_is_this(*TERMS))


def favourites(found: Routing) -> Markup:
    """The tokens each expert scores highest."""
    rows: list[list[object]] = []
    for expert, tokens in enumerate(found.favourites):
        shown = cards.words(f"{t.text!r} {t.gate:.2f} ({t.count})" for t in tokens)
        rows.append([cards.expert(expert), shown])
    head = ["Expert", "Tokens with the highest mean gate above its own mean (times seen)"]
    return cards.table(head, rows, caption="Favourite tokens")


def gate_drift(run: Run) -> dict[str, Any]:
    """The figure of how routing weights moved during training, or why there is none."""
    if run.is_imported:
        return figure(None, "No gates were recorded: this adapter was not trained here.")
    return figure(f"/ui/figures/runs/{run.id}/gate-drift") if is_routed(run) else figure(None, "No gates.")


class RoutingTab(Tab):
    """Routing weights by layer, group, kind of token and step; clicks on cells show the texts behind them."""

    title = "Routing"
    place = 30

    def layout(self) -> None:
        self.verdict, self.facts = gr.HTML(), gr.HTML()
        self.panels = {"layers": FigurePanel(height=320, elem_id="gate-layers")}
        self.texts = gr.HTML()
        self.group = gr.Radio(GROUPS, value="cluster", label="Compare the gates with")
        with gr.Row():
            with gr.Column(min_width=320):
                self.panels["groups"] = FigurePanel(height=300, elem_id="gate-groups")
                self.group_texts = gr.HTML()
            with gr.Column(min_width=320):
                self.panels["agreement"] = FigurePanel(height=300)
        self.panels["distribution"], self.panels["effective"] = side_by_side((300, "gate-distribution"), (300, None))
        self.panels["classes"] = FigurePanel(height=300)
        self.drift = FigurePanel(height=320, elem_id="gate-drift")
        self.tokens = gr.HTML()

    def connect(self) -> None:
        corpus, layer = self.choosers.corpus, self.choosers.layer
        self.panels["layers"].select(self.open_cell, corpus, [self.texts, layer], **ACT)
        self.panels["groups"].select(self.open_group, [corpus, self.group], self.group_texts, **ACT)

    def picks(self) -> list[Any]:
        return [self.group]

    def live(self) -> list[Any]:
        return [self.verdict, self.facts, *self.panels.values(), self.drift, self.tokens]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return on_corpus(look, "routing")

    def show(self, look: Look, found: Found) -> Changes:
        routing = found.get("routing")
        gates = result_of(look.store, routing, Routing)
        names = gates.layers if gates else []
        queries: dict[str, dict[str, Any]] = {
            "groups": {"group": look.values[self.group]},
            "agreement": {"group": look.values[self.group]},
            "distribution": {"layer": names.index(look.layer) if look.layer in names else 0},
        }
        return {
            self.verdict: state_of(routing, self._missing(look)),
            self.facts: routing_cards(gates) if gates else "",
            **{panel: source(routing, name, **queries.get(name, {})) for name, panel in self.panels.items()},
            self.drift: gate_drift(look.run),
            self.tokens: favourites(gates) if gates else "",
        }

    def _missing(self, look: Look) -> str:
        """Why there are no routing weights."""
        if look.on is None and is_routed(look.run):
            return NO_CORPUS
        title = METHODS[look.run.method].title
        return f"{title} has no router, so there are no routing weights. Its matrices are under Weights."

    def _measured(self, run: Run, corpus_id: Any) -> Routing | None:
        """The finished measurement of the run on the chosen corpus."""
        on = self.store.analyses.measured_on(run, chosen_id(corpus_id))
        return result_of(self.store, self.store.analyses.find(run.id, "routing", on or {}), Routing)

    def open_cell(self, request: gr.Request, corpus_id: int | None, event: gr.EventData) -> Changes:
        """The examples behind a cell of the map of layers and experts; its layer is chosen."""
        cell, gates = picked(event), self._measured(self.run_of(request), corpus_id)
        if gates is None or not is_cell(cell, len(gates.layers), gates.experts):
            return {}
        name = gates.layers[cell[0]]
        caption = f"{short_layer(name)}, {expert_name(cell[1])}: the examples with the highest mean gate"
        return {
            self.texts: texts_table(gates, gates.cells[cell[0]][cell[1]], caption),
            self.choosers.layer: name,
        }

    def open_group(self, request: gr.Request, corpus_id: int | None, kind: str, event: gr.EventData) -> Changes:
        """The examples behind a cell of the map of groups and experts."""
        cell, gates = picked(event), self._measured(self.run_of(request), corpus_id)
        found = gates.groups.get(chosen_text(kind)) if gates else None
        if gates is None or found is None or not is_cell(cell, len(found.cells), gates.experts):
            return {}
        caption = f"{found.names[cell[0]]}, {expert_name(cell[1])}: its examples with the highest mean gate"
        return {self.group_texts: texts_table(gates, found.cells[cell[0]][cell[1]], caption)}
