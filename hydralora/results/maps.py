"""The A or B matrices of an adapter, or of several, as points on a plane."""

from __future__ import annotations

from pydantic import Field

from hydralora.results.base import Part, Result, Vector

DISTANCES = "distances.npy"  # (P, P), float32, beside the file


class Point(Part):
    """One matrix on the map: where it sits in the model."""

    run: str = Field(description="Name of the adapter it is from")
    module: str = Field(description="Name of its layer")
    layer: int = Field(description="Number of the transformer block, -1 where the name holds none")
    kind: str = Field(description="Last part of the layer's name, such as `up_proj`")
    expert: int = Field(description="Its head, from 0; -1 for an A")


class GroupTest(Part):
    """Do matrices that share a layer, an expert or a run lie closer together than chance?"""

    by: str = Field(description="What they share: `layer`, `expert` or `run`")
    silhouette: float = Field(description="Mean silhouette of this grouping on the distances, -1 to 1")
    p: float = Field(description="p-value, by shuffling the labels")
    real: bool = Field(description="Whether it is more than chance, the level being shared among the tests of a map")


class MatrixMap(Result):
    """The matrices on a plane. Their distances ``(P, P)`` lie beside the file as `distances.npy` (float32)."""

    FILE = "map.json"
    ROW = ("sentence", "stability")

    which: str = Field(description="`A` or `B`")
    layout: str = Field(description="`pca` (classical scaling), `tsne` or `umap`")
    seed: int = Field(description="Seed of layout and tests")
    similarity: str = Field(
        alias="likeness", description="What distances are made of: `cosine` of raw numbers, or `subspace` overlap"
    )
    stability: float = Field(description="Share of nearest neighbours that other seeds keep, 0 to 1; 1 for `pca`")
    points: list[Point] = Field(description="The matrices, ``(P,)``")
    x: Vector = Field(description="First coordinate of each, no unit, ``(P,)``")
    y: Vector = Field(description="Second coordinate of each, no unit, ``(P,)``")
    findings: list[GroupTest] = Field(description="Tests of the groupings that these matrices have")
    sentence: str = Field(description="What the tests say, in words")
