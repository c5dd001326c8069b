"""The curves of a training: which numbers of its steps are drawn together, and how they are read.

Every number that a step has is stored by its name; one that is named here is drawn on the page of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """One figure over the steps.

    Args:
        title: Over the figure, and as the name of its downloads.
        lines: Names of numbers, with the words for each line.
        unit: On the y axis.
        aid: How it is read.
        empty: What is said where no step has such a number.
    """

    title: str
    lines: Mapping[str, str]
    unit: str
    aid: str
    empty: str = "None of these numbers was measured yet."


CURVES: dict[str, Curve] = {
    "loss": Curve(
        "Loss",
        {"loss": "training loss", "eval_loss": "held-out loss"},
        "loss",
        "Mean loss per answer token (nats); lower is better. When the held-out loss rises while the other falls, the "
        "adapter overfits.",
    ),
    "answers": Curve(
        "Right answers",
        {"eval_exact_match": "right"},
        "share",
        "Share of the same few held-out questions that are answered exactly right; where few are asked, a "
        "small step means nothing.",
        empty="No questions were answered during this training (the setting “Questions answered” is 0).",
    ),
    "margin": Curve(
        "Margin of preferences",
        {"margin": "trained pairs", "eval_margin": "held-out pairs"},
        "margin",
        "By how much more the adapter has raised better answers than worse ones, in nats times `dpo_beta`; it begins "
        "at 0. Where that of the held-out pairs stops rising while the other goes on, the adapter overfits.",
        empty="No preferences are learnt in this run (the setting “Objective” is answers).",
    ),
    "speed": Curve(
        "Speed",
        {"tokens_per_second": "tokens per second"},
        "tokens/s",
        "Tokens read per second of training, padding left out.",
    ),
    "rate": Curve(
        "Learning rate",
        {"learning_rate": "learning rate"},
        "learning rate",
        "The planned learning rate at each step.",
    ),
}
