"""The task of every example, for methods that train on tasks: its cluster, or its label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from hydralora.corpus.examples import Example
from hydralora.errors import TrainingError
from hydralora.results import Clusters, cluster_name
from hydralora.results.clusters import ASSIGNMENTS

MOST_NAMED = 40  # clusters that a refusal names
Placed = list[tuple[int, Example]]  # positions in the corpus and the examples there


@dataclass(frozen=True)
class Tasks:
    """The tasks of a corpus in order; the task of an example is its place among ``names``."""

    names: list[str]
    source: str
    clusters_folder: Path | None

    def numbers(self, examples: Placed) -> list[int]:
        """Task number of every example, -1 for one whose task is not among ``names``."""
        order = {name: number for number, name in enumerate(self.names)}
        return [order.get(name, -1) for name in _names(examples, self.source, self.clusters_folder)]


def read_tasks(examples: Placed, source: str | None, clusters_folder: Path | None) -> Tasks | None:
    """The tasks that ``examples`` belong to; None where the method needs no tasks.

    Args:
        source: ``cluster``, ``label``, or None.

    Raises:
        TrainingError: When there are no clusters or labels, or only one.
    """
    if source is None:
        return None
    found = _names(examples, source, clusters_folder)
    missing = sum(not name for name in found)
    if missing:
        raise TrainingError(
            f"{missing:,} of {len(found):,} examples have no label, and this method takes labels as "
            "tasks. Name the label column of the corpus, or set `tasks` to cluster."
        )
    names = _in_order(found, examples, source, clusters_folder)
    if len(names) < 2:
        raise TrainingError(
            f"There is only one task (by {source}), and this method learns from differences between tasks. "
            "Choose another k, or train plain LoRA."
        )
    return Tasks(names, source, clusters_folder)


def _names(examples: Placed, source: str, clusters_folder: Path | None) -> list[str]:
    """The task of every example by name: its label, or its cluster as ``C1``, ``C2``, ..."""
    if source == "label":
        return [example.label for _, example in examples]
    cluster = read_clusters(clusters_folder)
    if cluster is None:
        raise TrainingError("This method takes clusters as tasks. Cluster the corpus first, or set `tasks` to label.")
    return [cluster_name(int(cluster[position])) for position, _ in examples]


def _in_order(names: list[str], examples: Placed, source: str, clusters_folder: Path | None) -> list[str]:
    """The different tasks: clusters by their number, labels by the alphabet."""
    if source == "label":
        return sorted(set(names))
    cluster = read_clusters(clusters_folder)
    assert cluster is not None  # the names are made of it
    return [cluster_name(number) for number in sorted({int(cluster[position]) for position, _ in examples})]


def read_clusters(folder: Path | None) -> np.ndarray | None:
    """Cluster of every example of the corpus, from 0, ``(examples,)``; None where it has not been clustered."""
    path = folder / ASSIGNMENTS if folder else None
    return pq.read_table(path)["cluster"].to_numpy() if path is not None and path.exists() else None


def read_titles(folder: Path | None) -> dict[int, str]:
    """What each cluster is called, by its number: ``C2 Returns`` where somebody named it, else ``C2``."""
    if folder is None or not (folder / Clusters.FILE).exists():
        return {}
    found = Clusters.read(folder)
    return {number: found.title(number) for number in found.all_numbers}


def only_cluster(
    train: list[int], held_out: list[int], number: int, clusters_folder: Path | None
) -> tuple[list[int], list[int]]:
    """The positions of both parts that lie in cluster ``number``, counted from 1; all of them for 0.

    Raises:
        TrainingError: When the corpus has no clusters, or no training example is in that one.
    """
    if not number:
        return train, held_out
    cluster = read_clusters(clusters_folder)
    if cluster is None:
        raise TrainingError(f"`only_cluster` is {number}, but the corpus has no clusters. Cluster it first.")
    found = [position for position in train if cluster[position] == number - 1]
    if not found:
        present = ", ".join(cluster_name(int(other)) for other in np.unique(cluster)[:MOST_NAMED])
        raise TrainingError(
            f"No training example lies in cluster {cluster_name(number - 1)}; the corpus has {present}. "
            "Set `only_cluster` to the number of one of these, or to 0 for all."
        )
    return found, [position for position in held_out if cluster[position] == number - 1]
