"""The task of every example, for methods that train on tasks: its cluster, or its label."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from hydralora.corpus import Example
from hydralora.errors import TrainingError


def read_groups(
    examples: list[tuple[int, Example]], source: str | None, clusters_folder: Path | None
) -> list[int] | None:
    """Task number of every example, counted from 0; None where the method needs no tasks.

    Args:
        examples: Positions in the corpus and the examples there.
        source: ``cluster``, ``label``, or None.

    Raises:
        TrainingError: When there are no clusters or labels, or only one.
    """
    if source is None:
        return None
    if source == "label":
        names: list[object] = [example.label for _, example in examples]
        missing = sum(not name for name in names)
        if missing:
            raise TrainingError(
                f"{missing:,} of {len(names):,} examples have no label, and this method takes labels as "
                "tasks. Name the label column of the corpus, or set `tasks` to cluster."
            )
    else:
        path = clusters_folder / "assignments.parquet" if clusters_folder else None
        if path is None or not path.exists():
            raise TrainingError(
                "This method takes clusters as tasks. Cluster the corpus first, or set `tasks` to label."
            )
        cluster = pq.read_table(path)["cluster"].to_numpy()
        names = [int(cluster[position]) for position, _ in examples]
    order = {name: number for number, name in enumerate(sorted(set(names), key=str))}
    if len(order) < 2:
        raise TrainingError(
            f"There is only one task (by {source}), and this method learns from differences between tasks. "
            "Choose another k, or train plain LoRA."
        )
    return [order[name] for name in names]
