"""What the chosen base is, whether the run fits this machine, and what it can learn: told before it starts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.config import RunConfig, TrainConfig, parse_config
from hydralora.errors import UserError
from hydralora.results.bases import BaseFacts
from jobs.machine import Machine, look_at_machine
from studio import cards
from studio.bases import SIGNS, amount, parameters, train_fit
from studio.cards import Markup
from studio.form import collect
from studio.pages.common import chosen_id, chosen_text
from studio.pages.page import Changes, Part

DECIDING = (  # settings that take memory
    "batch_size",
    "accumulation",
    "max_length",
    "dtype",
    "gradient_checkpointing",
    "objective",
)
LINK = cards.link("/bases", "All bases: what they need, and how to add one")
KINDS = {"fits": "good", "tight": "warn", "does not fit": "bad"}
SMALL_WORLD = "The starter knows the little world of its sample corpora only."
SMALL_ADVICE = (
    "It reads other texts worse than by guessing and can hardly learn from them. Choose a real language model for your "
    "own data, such as SmolLM2-135M-Instruct."
)


class BaseNote(Part):
    """A line on the base, the memory that the run takes at most, and what to change where it does not fit."""

    def layout(self) -> None:
        self.note = gr.HTML()

    # Handlers

    def draw(self, corpus_id: Any, base: Any, method: Any, *settings: Any) -> Changes:
        """What is known of the base, for these settings; ``settings`` are those of ``DECIDING``, in order."""
        name, asked = chosen_text(base).strip() or "starter", dict(zip(DECIDING, settings, strict=True))
        try:
            facts = self.store.base_checks.facts(name)
            train = collect(TrainConfig, asked)
            config = parse_config({"method": chosen_text(method), "train": train})
        except UserError:  # half a name or number, as it is being typed; or a base of a hub, not fetched yet
            return {self.note: Markup(f"<p class='hy-quiet'>{LINK}.</p>")}
        return {self.note: cards.join(about(facts, config, look_at_machine()), self._expectation(name, corpus_id))}

    def _expectation(self, name: str, corpus_id: Any) -> Markup:
        """That this base cannot learn this corpus, where that is known."""
        chosen = chosen_id(corpus_id)
        if name != "starter" or chosen is None:
            return Markup("")
        try:
            is_own = not self.store.corpora.get(chosen).is_sample
        except UserError:  # deleted in another tab: the start button says so
            return Markup("")
        return cards.note("warn", SMALL_WORLD, SMALL_ADVICE) if is_own else Markup("")


def about(facts: BaseFacts, config: RunConfig, machine: Machine) -> Markup:
    """The base, and whether the run fits."""
    fit = train_fit(facts, config, machine)
    template = "with a chat template" if facts.has_template else "without a chat template"
    what = f"{parameters(facts.parameters)} parameters, {facts.context:,} tokens of context, {template}."
    needs = (
        f"{SIGNS[fit.verdict]} At most {amount(fit.needed)} of memory, {amount(machine.room)} are free: {fit.verdict}."
    )
    return cards.note(
        KINDS[fit.verdict], needs, cards.join(f"{fit.way_out} " if fit.way_out else "", f"{what} ", LINK, ".")
    )
