"""Which expert speaks where: gate weights over layers, tokens and groups of examples.

Shapes: ``L`` routed layers, ``N`` experts, ``G`` groups.
"""

from __future__ import annotations

from pydantic import Field

from hydralora.results.base import Matrix, Part, Result, Vector

Cells = list[list[list[int]]]  # positions of examples behind each cell of a table


class GroupGates(Part):
    """Do gate weights differ between groups of examples? Without a test where there is only one group."""

    names: list[str] = Field(description="What the groups are called, ``(G,)``")
    sizes: list[int] = Field([], description="Examples in each group, ``(G,)``")
    cells: Cells = Field([], description="Positions of the examples with the highest mean gate, ``(G, N, up to 6)``")
    mean: Matrix = Field([], description="Mean gate weight over tokens, examples and layers, ``(G, N)``")
    layer_mean: list[Matrix] = Field([], description="The same in each layer, ``(G, L, N)``")
    r2: Vector = Field([], description="Share of the gates' variance that lies between groups, 0 to 1, ``(L,)``")
    band: float = Field(0.0, description="99 % quantile of the mean of `r2` over layers after shuffling the groups")
    p: float = Field(1.0, description="p-value of the mean of `r2`, by permutation")
    real: bool = Field(description="Whether the groups differ by more than chance: the mean of `r2` is above `band`")
    nmi: Vector = Field([], description="Normalised mutual information of group and leading expert, 0 to 1, ``(L,)``")
    nmi_band: float = Field(0.0, description="99 % quantile of `nmi` after shuffling the groups")
    sentence: str = Field(description="The verdict in words")

    @property
    def is_measured(self) -> bool:
        """Whether there were groups to compare."""
        return bool(self.mean)


class TokenClasses(Part):
    """Gate weights by kind of token; only kinds that were seen are listed."""

    names: list[str] = Field(description="Kinds of token, ``(K,)``")
    counts: list[int] = Field(description="Tokens seen of each kind, ``(K,)``")
    mean: Matrix = Field(description="Mean gate weight over layers, ``(K, N)``")


class Favourite(Part):
    """A token that an expert scores above its own mean."""

    text: str = Field(description="The token as text")
    gate: float = Field(description="Mean gate weight of the expert on it, over layers, 0 to 1")
    count: int = Field(description="How often it was seen")


class Routing(Result):
    """How the experts of an adapter are used over a corpus."""

    FILE = "routing.json"
    ROW = ("sentence", "examples", "tokens")

    layers: list[str] = Field(description="Names of the routed layers in model order, ``(L,)``")
    experts: int = Field(description="Number of experts N")
    tokens: int = Field(description="Tokens read, padding left out")
    examples: int = Field(description="Examples read")
    mean: Matrix = Field(description="Mean gate weight, each example counting the same, ``(L, N)``; a row sums to 1")
    effective_experts: Vector = Field(
        description="``exp(entropy)`` of the gates, mean over tokens: 1 is one expert alone, N an equal mix, ``(L,)``"
    )
    histogram: list[Matrix] = Field(description="Share of tokens in each of 20 bins of gate weight, ``(L, N, 20)``")
    dead: list[int] = Field(description="Experts below a quarter of an equal share in every layer, from 0")
    dominant: list[int] = Field(description="Experts with more than 90 % of all gate weight, from 0")
    groups: dict[str, GroupGates] = Field(description="The gates by `cluster` and by `label`, where there are any")
    token_classes: TokenClasses = Field(description="The gates by kind of token")
    favourites: list[list[Favourite]] = Field(description="Tokens each expert scores highest, ``(N, up to 12)``")
    cells: Cells = Field(description="Positions of the examples with the highest mean gate, ``(L, N, up to 6)``")
    texts: dict[str, str] = Field(description="Beginnings of the examples read, by position in the corpus")
    sentence: str = Field(description="How far the router chooses, in words")
    capture_cost: float | None = Field(
        None, description="Time that reading the gates adds, as a share; null if unknown"
    )
