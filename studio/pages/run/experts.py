"""Experts: one card for each, drawn from what is lost when it is muted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from hydralora.results import Change, Context, ExpertCard, Experts
from studio import cards
from studio.cards import Markup
from studio.figures.base import short_layer
from studio.figures.palette import expert_name
from studio.pages.page import Changes
from studio.pages.run.tab import (
    NO_CORPUS,
    Found,
    Look,
    Tab,
    Wanted,
    is_routed,
    on_corpus,
    result_of,
    side_by_side,
    source,
    state_of,
)

GROUPS = [("clusters", "cluster"), ("labels", "label")]
NO_ROUTER = "This run has no router, so no expert can be muted. Its matrices are under Weights."
WHAT = cards.what_is_this("muting", "loss", "gate", "interval")
LINES = 4  # groups and layers named on a card


def expert_cards(found: Experts, run_id: int) -> Markup:
    """All cards side by side."""
    inside = "".join(expert_card(card, found.experts, run_id) for card in found.cards)
    return Markup(f"<div class='hy-experts'>{inside}</div>")


def expert_card(card: ExpertCard, experts: int, run_id: int) -> Markup:
    """What it serves, what is lost without it, its share and its favourite places; the other numbers are folded."""
    name, whole = cards.expert(card.expert), card.whole
    spread = "" if whole.half_width is None else f" ± {whole.half_width:.2g}"
    beyond = "beyond chance" if whole.real else "within chance"
    facts: list[list[object]] = [["Mean norm of B A", f"{card.norm:.3g}"]]
    for kind, rows in card.groups.items():
        facts.append([f"By {kind}", _changes([(row.name, row) for row in rows[:LINES]])])
    layers = [(short_layer(row.layer), row) for row in card.layers[:LINES]]
    facts.append(["Muted in one layer", _changes(layers) if layers else "–"])
    numbers = cards.table(["Measure", "Value"], facts, caption=f"Numbers of {expert_name(card.expert)}")
    places = "<div>Where its gate is highest:</div>" + "".join(_place(place) for place in card.contexts)
    return Markup(
        f"<div class='hy-xcard'><h3>{name}<span>{cards.text(card.sentence)}</span></h3>"
        f"<p><span><b>{whole.change:+.2f}</b> loss without it{spread}, {beyond}</span>"
        f"<span><b>{card.gate:.0%}</b> of all words, an equal share is {1 / experts:.0%}</span></p>"
        f"<div class='places'>{places}</div><details><summary>More numbers</summary>{numbers}</details>"
        f"<a class='hy-btn' href='/run?run={run_id}&amp;tab=chat&amp;mute={card.expert}'>Mute it in the chat</a></div>"
    )


def _changes(rows: Sequence[tuple[str, Change]]) -> Markup:
    return cards.words(f"{name} {row.change:+.3f}{'' if row.real else ' (chance)'}" for name, row in rows)


def _place(place: Context) -> Markup:
    return Markup(
        f"<div title='gate {place.gate:.2f}'>{cards.text(place.before)}"
        f"<mark>{cards.text(place.text)}</mark>{cards.text(place.after)}</div>"
    )


class ExpertsTab(Tab):
    """What is lost without each expert: cards, then by group and by layer."""

    title = "Experts"
    place = 20

    def layout(self) -> None:
        self.verdict, self.cards = gr.HTML(), gr.HTML(elem_id="expert-cards")
        self.group = gr.Radio(GROUPS, value="cluster", label="Tell experts apart by")
        self.by_group, self.by_layer = side_by_side((320, "muted-groups"), (340, "muted-layers"))

    def picks(self) -> list[Any]:
        return [self.group]

    def live(self) -> list[Any]:
        return [self.verdict, self.cards, self.by_group, self.by_layer]

    def wants(self, look: Look) -> dict[str, Wanted]:
        return on_corpus(look, "experts")

    def show(self, look: Look, found: Found) -> Changes:
        muted = found.get("experts")
        experts = result_of(look.store, muted, Experts)
        missing = NO_CORPUS if look.on is None and is_routed(look.run) else NO_ROUTER
        return {
            self.verdict: state_of(muted, missing),
            self.cards: cards.join(WHAT, expert_cards(experts, look.run.id)) if experts else "",
            self.by_group: source(muted, "groups", group=look.values[self.group]),
            self.by_layer: source(muted, "layers"),
        }
