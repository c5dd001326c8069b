"""Groups of examples to compare: clusters by number, labels by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hydralora.corpus.tasks import Placed, read_clusters, read_titles
from hydralora.results import cluster_name


@dataclass(frozen=True)
class Grouping:
    """Which group every example is in.

    Args:
        names: What the groups are called, in the order in which they are shown.
        of: Place in ``names`` of every example's group, ``(examples,)``.
        clusters: Number (from 0) of the cluster that each group is; None where the groups are labels, whatever
            they are called.
    """

    names: tuple[str, ...]
    of: np.ndarray
    clusters: tuple[int, ...] | None = None

    @classmethod
    def of_clusters(cls, numbers: np.ndarray, titles: dict[int, str] | None = None) -> Grouping:
        """Clusters by number (from 0) ``(examples,)``, in their order: ``C2`` comes before ``C10``.

        Args:
            titles: What each number is called; its letter where left out.
        """
        found, of = np.unique(numbers, return_inverse=True)
        clusters = tuple(int(number) for number in found)
        called = titles or {}
        return cls(tuple(called.get(number, cluster_name(number)) for number in clusters), of, clusters)

    @classmethod
    def of_labels(cls, labels: list[str]) -> Grouping:
        """Labels in the order of the alphabet."""
        found, of = np.unique(labels, return_inverse=True)
        return cls(tuple(str(name) for name in found), of)

    def __len__(self) -> int:
        return len(self.names)


def groups_of(
    examples: Placed, clusters: np.ndarray | None, titles: dict[int, str] | None = None
) -> dict[str, Grouping]:
    """The examples by cluster (of every example of the corpus, ``(corpus,)``) and by label, where there are any."""
    groups = {}
    if clusters is not None:
        groups["cluster"] = Grouping.of_clusters(clusters[[i for i, _ in examples]], titles)
    if len({e.label for _, e in examples} - {""}) > 1:
        groups["label"] = Grouping.of_labels([e.label for _, e in examples])
    return groups


def read_groups_of(examples: Placed, clusters_folder: Path | None) -> dict[str, Grouping]:
    """``groups_of`` with the clusters stored in a folder."""
    return groups_of(examples, read_clusters(clusters_folder), read_titles(clusters_folder))
