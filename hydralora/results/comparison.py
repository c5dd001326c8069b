"""Several adapters of one base beside each other: what they read (A), write (B) and change (BA).

Shapes: ``R`` adapters.
"""

from __future__ import annotations

from pydantic import Field

from hydralora.results.base import Matrix, Part, Result


class PairFigures(Part):
    """Similarity of every two adapters in one layer."""

    value: Matrix = Field(description="Similarity, 0 to 1, ``(R, R)``")
    chance: Matrix = Field(description="99 % point of random matrices of the same shapes, ``(R, R)``")


class LayerComparison(Part):
    """One layer that all of them adapt in the same shape."""

    name: str = Field(description="Name of the layer")
    layer: int = Field(description="Number of the transformer block, -1 where the name holds none")
    kind: str = Field(description="Last part of the name, such as `up_proj`")
    A: PairFigures = Field(description="Overlap of the spaces that A reads")
    B: PairFigures = Field(description="Overlap of the spaces that all heads together write")
    BA: PairFigures = Field(description="Size of the cosine of the mean updates")

    def part(self, name: str) -> PairFigures:
        """``A``, ``B`` or ``BA``."""
        found: PairFigures = getattr(self, name)
        return found


class PartSummary(Part):
    """One of the three over all layers; means leave out an adapter beside itself."""

    mean: Matrix = Field(description="Mean similarity over layers, ``(R, R)``")
    similarity: float = Field(alias="likeness", description="Mean similarity over layers and pairs, 0 to 1")
    chance: float = Field(description="Mean chance level over layers and pairs")
    above: float = Field(description="Share of layers and pairs above their chance level, 0 to 1")
    start: float | None = Field(None, description="`likeness` of the untrained A matrices; null if unknown")


class Comparison(Result):
    """Adapters compared layer by layer."""

    FILE = "compare.json"

    runs: list[str] = Field(description="Names of the adapters, ``(R,)``")
    layers: list[LayerComparison] = Field(description="One entry for each shared layer")
    parts: dict[str, PartSummary] = Field(description="Summaries of `A`, `B` and `BA`")
    sentence: str = Field(description="What they share, in words")
