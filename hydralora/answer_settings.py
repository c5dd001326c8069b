"""How an answer is asked for: what is drawn, and what is changed in the experts. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hydralora.bounds import MOST_EXPERTS, MOST_LAYERS, Expert, Factor, LayerName, Seed
from hydralora.settings import Settings, unit

MOST_STOPS, LONGEST_STOP = 4, 200  # texts before which an answer ends, and characters of one
Factors = Annotated[dict[Expert, Factor], Field(max_length=MOST_EXPERTS)]


class GenerationSettings(Settings):
    """How an answer is drawn."""

    temperature: float = Field(
        0.7, ge=0.0, le=2.0, description="Temperature: 0 is greedy and always takes the likeliest word"
    )
    top_p: float = Field(
        0.95, gt=0.0, le=1.0, description="Only the likeliest words that add up to this share are drawn"
    )
    max_tokens: int = Field(128, ge=1, le=4096, description="Longest answer", json_schema_extra=unit("tokens"))
    seed: Seed = Field(0, description="Same seed, same answer")


class Change(Settings):
    """What is changed in one layer: factors of experts, or the one expert that speaks."""

    factors: Factors = Field(default_factory=dict, description="Expert -> factor on its gate weight")
    force: Expert | None = Field(None, description="Expert that speaks alone")


Layers = Annotated[dict[LayerName, Change], Field(max_length=MOST_LAYERS)]
