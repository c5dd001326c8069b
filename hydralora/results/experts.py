"""What each expert is for: the loss on held-out examples with the expert muted.

A change is the loss with the expert muted less the loss without, in nats per answer token: above zero, it helps.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hydralora.results.base import Part, Result


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Change(Part):
    """The mean change over some examples, with a sign-flip test."""

    change: float = Field(description="Mean change of the loss, nats per answer token")
    # An earlier version wrote an infinite one where there was a single example.
    half_width: Annotated[float | None, BeforeValidator(_finite)] = Field(
        description="Half of the 95 % interval over examples, nats per answer token; null for one example"
    )
    p: float = Field(description="p-value of the change, by random signs")
    real: bool = Field(description="Whether it is more than chance and at least 0.005 nats")
    examples: int = Field(description="Examples measured")


class GroupChange(Change):
    """The change in one group of examples."""

    name: str = Field(description="Name of the group")
    cluster: int | None = Field(None, description="Number of the cluster, from 0; null for a label")


class LayerChange(Change):
    """The change when the expert is muted in one layer only."""

    layer: str = Field(description="Name of the layer")


class Context(Part):
    """A place in the corpus where the expert's gate is high."""

    gate: float = Field(description="Gate weight there, mean over layers, 0 to 1")
    text: str = Field(description="The token")
    before: str = Field(description="Text before it")
    after: str = Field(description="Text after it")


class ExpertCard(Part):
    """One expert: what is lost without it, where, and where it speaks."""

    expert: int = Field(description="Number of the expert, from 0")
    gate: float = Field(description="Mean gate weight over tokens and layers, 0 to 1")
    norm: float = Field(description="Mean Frobenius norm of its updates B_i A")
    whole: Change = Field(description="Muted in every layer, over all examples")
    groups: dict[str, list[GroupChange]] = Field(description="The same by `cluster` and by `label`, largest first")
    layers: list[LayerChange] = Field(description="Muted in its strongest layers one by one, largest first")
    contexts: list[Context] = Field(description="Up to six places with different tokens")
    sentence: str = Field(description="What it is for, in words")

    @property
    def is_missed(self) -> bool:
        """Whether muting it changes the loss beyond chance, over all examples or in some group."""
        return self.whole.real or any(row.real for rows in self.groups.values() for row in rows)


class Experts(Result):
    """A card for every expert of an adapter."""

    FILE = "experts.json"
    ROW = ("sentence", "examples")

    experts: int = Field(description="Number of experts")
    examples: int = Field(description="Examples measured")
    loss: float = Field(description="Mean loss with all experts, nats per answer token")
    layers: list[str] = Field(description="Names of the routed layers in model order")
    cards: list[ExpertCard] = Field(description="One card for each expert")
    sentence: str = Field(description="How many experts are missed, in words")
    texts: dict[str, str] = Field({}, description="Beginnings of the examples measured, by position in the corpus")
