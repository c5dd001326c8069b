"""Inspect, Experts: one card for each, drawn from what is lost when it is muted."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio import cards
from studio.cards import Markup
from studio.figures import short_layer
from studio.pages.inspect_parts import NO_CORPUS, Found, Look, Part, is_routed, on_corpus, result_of, source, state_of
from studio.palette import expert_colour, expert_name
from studio.widgets import FigurePanel

GROUPS = [("clusters", "cluster"), ("labels", "label")]
LINES = 4  # groups and layers named on a card


def expert_cards(found: dict[str, Any]) -> Markup:
    """All cards side by side."""
    return Markup(f"<div class='hy-experts'>{''.join(expert_card(card) for card in found['cards'])}</div>")


def expert_card(card: dict[str, Any]) -> Markup:
    """Sentence, numbers, where it matters, and its favourite places."""
    name = cards.dot(expert_colour(card["expert"]), expert_name(card["expert"]))
    whole = card["whole"]
    facts: list[list[object]] = [
        ["Loss without it", f"{whole['change']:+.4f} ± {whole['half_width']:.4f}"],
        ["Mean gate", f"{card['gate']:.3f}"],
        ["Mean norm of B A", f"{card['norm']:.3g}"],
    ]
    for kind, rows in card["groups"].items():
        facts.append([f"By {kind}", _changes([(row["name"], row) for row in rows[:LINES]])])
    layers = [(short_layer(row["layer"]), row) for row in card["layers"][:LINES]]
    facts.append(["Muted in one layer", _changes(layers) if layers else "–"])
    numbers = cards.table(["Measure", "Value"], facts, caption=f"Numbers of {expert_name(card['expert'])}")
    places = "<div>Where its gate is highest:</div>" + "".join(_place(place) for place in card["contexts"])
    return Markup(
        f"<div class='hy-card hy-xcard'><h3>{name}</h3><p>{cards.text(card['sentence'])}</p>{numbers}"
        f"<div class='places'>{places}</div></div>"
    )


def _changes(rows: list[tuple[str, dict[str, Any]]]) -> Markup:
    return cards.words(f"{name} {row['change']:+.3f}{'' if row['real'] else ' (chance)'}" for name, row in rows)


def _place(place: dict[str, Any]) -> Markup:
    before, after = place["before"], place["after"]
    return Markup(
        f"<div title='gate {place['gate']:.2f}'>{cards.text(before)}<mark>{cards.text(place['text'])}</mark>{cards.text(after)}</div>"
    )


def build() -> Part:
    """Draw the tab."""
    state, shown = gr.HTML(), gr.HTML(elem_id="expert-cards")
    group = gr.Radio(GROUPS, value="cluster", label="Tell experts apart by")
    with gr.Row():
        with gr.Column(min_width=320):
            by_group = FigurePanel(height=320, elem_id="muted-groups")
        with gr.Column(min_width=320):
            by_layer = FigurePanel(height=340, elem_id="muted-layers")

    def show(look: Look, found: Found) -> list[Any]:
        muted = found.get("experts")
        experts = result_of(look.store, muted, "experts.json")
        no_router = "This run has no router, so no expert can be muted. Its matrices are under Heads and Map."
        return [state_of(muted, NO_CORPUS if look.on is None and is_routed(look.run) else no_router),
                expert_cards(experts) if experts else "",
                source(muted, "groups", group=look.values[0]), source(muted, "layers")]  # fmt: skip

    return Part([group], [state, shown, by_group, by_layer], lambda look: on_corpus(look, "experts"), show)
