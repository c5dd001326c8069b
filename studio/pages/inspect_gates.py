"""Inspect, Gates: who speaks where, for which cluster, for which kind of token, and how that moved."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.methods import METHODS
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.figures import short_layer
from studio.pages.common import TICK, shows_errors
from studio.pages.inspect_parts import (
    NO_CORPUS,
    Found,
    Look,
    Part,
    is_cell,
    is_routed,
    on_corpus,
    picked,
    result_of,
    source,
    state_of,
    texts_table,
)
from studio.palette import expert_colour, expert_name
from studio.widgets import FigurePanel, figure

GROUPS = [("clusters", "cluster"), ("labels", "label")]


def routing_cards(found: dict[str, Any]) -> Markup:
    """Experts that are dead or dominant, and how many speak at once."""
    effective = found["effective_experts"]

    def names(key: str) -> str:
        return ", ".join(expert_name(e) for e in found[key]) or "none"

    cost = found.get("capture_cost")
    read = f"tokens of {found['examples']:,} examples, held-out ones first"
    read += f"; reading the gates cost {max(cost, 0):.0%} of the time" if cost is not None else ""
    at_once = f"{sum(effective) / len(effective):.2f}"
    parts = [
        cards.card("Measured", f"{found['tokens']:,}", read),
        cards.card("Speak at once", at_once, f"of {found['experts']} experts (effective number)"),
        cards.card("Dead experts", names("dead"), "below a quarter of an equal share in every layer"),
        cards.card("Dominant experts", names("dominant"), "above 90 % of all gate weight"),
    ]
    for kind, group in found["groups"].items():
        verdict = "yes" if group.get("real") else "no"
        parts.append(cards.card(f"Follow the {kind}s?", verdict, group["sentence"]))
    return cards.cards(parts)


def favourites(found: dict[str, Any]) -> Markup:
    """The tokens each expert is weighed up for."""
    rows: list[list[object]] = []
    for expert, tokens in enumerate(found["favourites"]):
        shown = cards.words(f"{t['text']!r} {t['gate']:.2f} ({t['count']})" for t in tokens)
        rows.append([cards.dot(expert_colour(expert), expert_name(expert)), shown])
    head = ["Expert", "Tokens with the highest mean gate above its own mean (times seen)"]
    return cards.table(head, rows, caption="Favourite tokens")


def build(store: Store, chosen: Any, corpus: Any, layer: Any) -> Part:
    """Draw the tab; clicks on cells show the texts behind them."""
    state, facts = gr.HTML(), gr.HTML()
    panels = {"layers": FigurePanel(height=320, elem_id="gate-layers")}
    texts = gr.HTML()
    group = gr.Radio(GROUPS, value="cluster", label="Compare the gates with")
    with gr.Row():
        with gr.Column(min_width=320):
            panels["groups"] = FigurePanel(height=300, elem_id="gate-groups")
            group_texts = gr.HTML()
        with gr.Column(min_width=320):
            panels["agreement"] = FigurePanel(height=300)
    with gr.Row():
        with gr.Column(min_width=320):
            panels["distribution"] = FigurePanel(height=300, elem_id="gate-distribution")
        with gr.Column(min_width=320):
            panels["effective"] = FigurePanel(height=300)
    panels["classes"] = FigurePanel(height=300)
    drift = FigurePanel(height=320, elem_id="gate-drift")
    tokens = gr.HTML()

    def show(look: Look, found: Found) -> list[Any]:
        routing = found.get("routing")
        gates = result_of(look.store, routing, "routing.json")
        names = gates["layers"] if gates else []
        place = names.index(look.layer) if look.layer in names else 0
        title = METHODS[look.run.config["method"]].title
        no_router = f"{title} has no router, so there are no gate weights. Its matrices are under Heads and Map."
        queries: dict[str, dict[str, Any]] = {"groups": {"group": look.values[0]}, "agreement": {"group": look.values[0]},
                                              "distribution": {"layer": place}}  # fmt: skip
        moved = (
            figure(f"/ui/figures/runs/{look.run.id}/gate-drift")
            if is_routed(look.run) and not look.run.is_imported
            else figure(
                None,
                "No gates were recorded: this adapter was not trained here." if look.run.is_imported else "No gates.",
            )
        )
        missing = NO_CORPUS if look.on is None and is_routed(look.run) else no_router
        return [state_of(routing, missing), routing_cards(gates) if gates else "",
                *[source(routing, name, **queries.get(name, {})) for name in panels], moved,
                favourites(gates) if gates else ""]  # fmt: skip

    def gates_of(run_id: int | None, corpus_id: int | None) -> dict[str, Any] | None:
        on = store.measured_on(store.run(run_id or 0), corpus_id)
        return result_of(store, store.find_analysis(run_id or 0, "routing", on or {}), "routing.json")

    @shows_errors
    def open_cell(run_id: int | None, corpus_id: int | None, event: gr.EventData) -> tuple[Any, Any]:
        cell, gates = picked(event), gates_of(run_id, corpus_id)
        if gates is None or not is_cell(cell, len(gates["layers"]), gates["experts"]):
            return gr.skip(), gr.skip()
        name = gates["layers"][cell[0]]
        caption = f"{short_layer(name)}, {expert_name(cell[1])}: the examples with the highest mean gate"
        return texts_table(gates, gates["cells"][cell[0]][cell[1]], caption), name

    @shows_errors
    def open_group(run_id: int | None, corpus_id: int | None, kind: str, event: gr.EventData) -> Any:
        cell, gates = picked(event), gates_of(run_id, corpus_id)
        found = gates["groups"].get(kind, {}) if gates else {}
        if gates is None or "cells" not in found or not is_cell(cell, len(found["cells"]), gates["experts"]):
            return gr.skip()
        caption = f"{found['names'][cell[0]]}, {expert_name(cell[1])}: its examples with the highest mean gate"
        return texts_table(gates, found["cells"][cell[0]][cell[1]], caption)

    panels["layers"].select(open_cell, [chosen, corpus], [texts, layer], **TICK)
    panels["groups"].select(open_group, [chosen, corpus, group], group_texts, **TICK)
    live = [state, facts, *panels.values(), drift, tokens]
    return Part([group], live, lambda look: on_corpus(look, "routing"), show)
