"""Clusters of a corpus, and how many experts they suggest. Shapes: ``k`` clusters."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hydralora.results.base import Part, Result

ASSIGNMENTS = "assignments.parquet"  # cluster, distance and place of every example, beside the file
LAYOUT = "layout.parquet"  # places by UMAP, `x` and `y` of every example, beside it once these were asked for


def cluster_name(number: int) -> str:
    """What a cluster is called wherever it is shown: ``C1`` for number 0. Nothing reads a number out of a name."""
    return f"C{number + 1}"


class Layout(Part):
    """A map of a corpus that was made after its clustering; the places lie beside that as `layout.parquet`."""

    method: str = Field(description="`umap`")
    examples: int = Field(description="Examples placed")
    fitted: int = Field(description="Distinct texts that the method itself has placed; the others stand beside them")


class Clusters(Result):
    """A clustering. Cluster, place and distance of every example lie beside the file as `assignments.parquet`."""

    FILE = "clusters.json"

    k: int = Field(description="Number of clusters")
    suggested_k: int = Field(description="Number of experts that the measures suggest")
    elbow_k: int = Field(description="Where the curve of squared distances bends most")
    reason: str = Field(description="Why that number is suggested, in words")
    seed: int = Field(description="Seed of k-means and of the reduced coordinates")
    examples: int = Field(description="Examples clustered")
    sizes: list[int] = Field(description="Examples in each cluster, largest first, ``(k,)``")
    words: list[list[str]] = Field(description="Terms that set each cluster apart, ``(k, up to 8)``")
    typical: list[list[int]] = Field(description="Positions of the examples nearest to each centre, ``(k, up to 5)``")
    inertia: dict[str, float] = Field(
        description="Sum of squared distances to the centres, by tried number of clusters"
    )
    silhouette: dict[str, float] = Field(description="Mean silhouette, -1 to 1, by tried number of clusters")
    stability: dict[str, float] = Field(
        description="Mean adjusted Rand index between random halves, up to 1, by tried number of clusters; between "
        "three seeds where `strength` is empty (earlier versions)"
    )
    nmi: float | None = Field(
        None, description="Normalised mutual information with the corpus' own labels, 0 to 1; null without several"
    )
    terms: int = Field(0, description="Different terms counted")
    corpus_hash: str = Field("", description="`content_hash` of the corpus")
    names: list[str] = Field([], description="Proposed name of each cluster, ``(k,)``")
    distinct: int = Field(0, description="Distinct texts; copies weigh nothing")
    low_k: int = Field(0, description="Smallest number of experts that the measures allow; 0 before it was measured")
    high_k: int = Field(0, description="Largest number of experts that the measures allow")
    is_clear: bool = Field(True, description="Whether one number of clusters is clear; else `suggested_k` is a default")
    strength: dict[str, float] = Field({}, description="Prediction strength, 0 to 1, by tried number of clusters")
    gap: dict[str, float] = Field(
        {}, description="Smallest distance between two clusters in units of their spread, by tried number of clusters"
    )
    recurring: dict[str, float] = Field(
        {}, description="Share of texts in clusters that come back and lie apart, by tried number of clusters"
    )
    elbow_trials: list[int] = Field([], description="The elbow in each of 15 trials, sorted")
    borderline: list[list[int]] = Field(
        [], description="Positions of the examples nearest to another cluster, ``(k, up to 5)``"
    )
    method: str = Field("kmeans", description="`kmeans`, `embeddings`, `hdbscan` or `dbscan`")
    options: dict[str, float | str | None] = Field({}, description="Options of the method")
    noise: int = Field(0, description="Examples of no cluster by the method; they stand with the nearest one")
    ari: float | None = Field(
        None, description="Adjusted Rand index with the corpus' own labels, up to 1; null without several"
    )
    labels: list[str] = Field([], description="The corpus' own labels, the most frequent first, up to 100")
    label_table: list[list[int]] = Field([], description="Examples by label and cluster, ``(labels, k)``")
    numbers: list[int] = Field(
        [], description="Number of each cluster, from 0, which it keeps whatever is edited; empty stands for 0 to k - 1"
    )
    numbers_used: int = Field(0, description="Numbers given so far, those of clusters that are gone among them; 0 is k")
    given_names: list[str] = Field([], description="Name that somebody gave each cluster, empty where none, ``(k,)``")
    branches: list[str] = Field([], description="What each cluster that was split was called, in order of the splits")
    paths: list[list[int]] = Field(
        [],
        description="Places in `branches` of what each cluster is part of, outermost first, ``(k, depth)``",
    )

    @property
    def all_numbers(self) -> list[int]:
        """The number of each listed cluster, ``(k,)``."""
        return self.numbers or list(range(self.k))

    @property
    def next_number(self) -> int:
        """The first number that no cluster has ever had."""
        return self.numbers_used or self.k

    def place(self, number: int) -> int:
        """Where a cluster stands in the lists.

        Raises:
            ValueError: When there is no such cluster.
        """
        return self.all_numbers.index(number)

    def given_name(self, number: int) -> str:
        """The name that somebody gave a cluster; empty where nobody did."""
        return self.given_names[self.place(number)] if self.given_names else ""

    def title(self, number: int) -> str:
        """``C2 Returns`` for a cluster that somebody named, else ``C2``."""
        return f"{cluster_name(number)} {self.given_name(number)}".rstrip()

    def shown_name(self, number: int) -> str:
        """The name that somebody gave a cluster, else the proposed one, else ``C2``."""
        place = self.place(number)
        proposed = self.names[place] if self.names else ", ".join(self.words[place][:3])
        return self.given_name(number) or proposed or cluster_name(number)

    def row(self) -> dict[str, Any]:
        """All of it: the pages ask for clusters all the time."""
        return self.dump()
