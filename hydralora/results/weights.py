"""How alike the heads of an adapter are, layer by layer, and how they moved during training.

Shapes: ``N`` heads of one layer. Every measure stands beside what random heads reach.
"""

from __future__ import annotations

from pydantic import Field

from hydralora.results.base import Matrix, Part, Result, Vector


class HeadFigures(Part):
    """The heads of one layer compared with each other; ``chance_*`` are 99 % points of random heads."""

    name: str = Field(description="Name of the layer")
    layer: int = Field(description="Number of the transformer block, -1 where the name holds none")
    kind: str = Field(description="Last part of the name, such as `up_proj`")
    rank: int = Field(description="Rank r of the heads")
    in_features: int = Field(description="Width of the layer's input")
    out_features: int = Field(description="Width of the layer's output")
    head_cosine: Matrix = Field(description="Cosine of the heads B_i, -1 to 1, ``(N, N)``")
    update_cosine: Matrix = Field(description="Cosine of the updates B_i A_i, -1 to 1, ``(N, N)``")
    overlap: Matrix = Field(description="Mean squared cosine of the angles between column spaces, 0 to 1, ``(N, N)``")
    cka: Matrix = Field(description="Linear CKA of the updates, 0 to 1, ``(N, N)``")
    update_norm: Vector = Field(description="Frobenius norm of B_i A_i, ``(N,)``")
    effective_rank: Vector = Field(description="``exp(entropy)`` of the singular values of B_i A_i, ``(N,)``")
    a_norm: float = Field(description="Frobenius norm of A")
    chance_head_cosine: float = Field(description="Chance level of the size of `head_cosine`")
    chance_update_cosine: Matrix = Field(description="Chance level of the size of `update_cosine`, ``(N, N)``")
    chance_overlap: float = Field(description="Chance level of `overlap`")
    chance_cka: float = Field(description="Chance level of `cka`")
    trained: bool = Field(True, description="False while some head is still zero")

    def measure(self, name: str) -> Matrix:
        """One of the four measures by its name, ``(N, N)``."""
        found: Matrix = getattr(self, name)
        return found

    def levels(self, name: str) -> Matrix:
        """The chance level of a measure for every pair of heads, ``(N, N)``."""
        level = getattr(self, f"chance_{name}")
        return level if isinstance(level, list) else [[level] * len(self.update_norm) for _ in self.update_norm]

    def pairs(self, name: str) -> list[tuple[float, float]]:
        """Size of a measure and its chance level for every pair of different heads."""
        found, levels = self.measure(name), self.levels(name)
        return [(abs(found[i][j]), levels[i][j]) for i in range(len(found)) for j in range(i)]


class Heads(Result):
    """The heads of every layer at one stored step."""

    FILE = "weights-{step}.json"

    layers: list[HeadFigures] = Field(description="One entry for each adapted layer, in model order")
    sentence: str = Field(description="How alike the heads are, in words")


class DriftRow(Part):
    """One stored step, means over layers; what is measured against the start is null where that was not kept."""

    step: int = Field(description="Optimizer steps done; 0 is the untrained start")
    similarity: float | None = Field(
        alias="likeness", description="Mean size of the cosine of different heads' updates; null for one head"
    )
    chance: float | None = Field(description="Mean chance level of it; null for one head")
    norm: float = Field(description="Mean Frobenius norm of the updates")
    trained: bool = Field(description="False while some head is still zero")
    a_moved: float | None = Field(None, description="``|A_t - A_0| / |A_0|``")
    a_kept: float | None = Field(None, description="Overlap of the spaces that A_t and A_0 read, 0 to 1")
    router_moved: float | None = Field(None, description="``|W_t - W_0| / |W_0|`` of the router; null without one")


class Weights(Heads):
    """The heads of the finished adapter, and how they came there."""

    FILE = "weights.json"
    ROW = ("sentence", "steps")

    steps: list[int] = Field(description="Stored steps, each with a file `weights-STEP.json`")
    drift: list[DriftRow] = Field(description="One row for each stored step")
    drift_sentence: str = Field(description="How the matrices moved, in words")
