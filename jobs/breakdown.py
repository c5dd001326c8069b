"""The breakdown experiment: one plain LoRA for each cluster of a run's corpus, to lay their matrices side by side.

It is the paper's opening experiment (Tian et al. 2024, figure 3, https://arxiv.org/abs/2404.19245). Its
runs are found by their settings, so nothing else is kept: LoRA, ``only_cluster``, the seed, and the corpus,
clusters and base of the run it was started from.
"""

from __future__ import annotations

from typing import Any

from hydralora.errors import UserError
from hydralora.results import cluster_name
from jobs.store.records import Run
from jobs.store.store import Store


def start_breakdown(store: Store, run_id: int, *, own_seeds: bool = False) -> list[Run]:
    """Queue one LoRA run for each cluster, with the rank, layers and training settings of a run.

    Args:
        own_seeds: Start each from random numbers of its own; else all begin with the same A, as one
            training script run k times does.

    Raises:
        UserError: When the run's corpus has no clusters, or only one.
    """
    run = store.runs.get(run_id)
    if run.is_imported or run.corpus_id is None:
        raise UserError(
            f"Run {run_id} was not trained here, so its settings are not known. Start from a run of this studio."
        )
    clusters = _clusters(store, run)
    options = run.config.adapter.model_dump()
    adapter = {name: options[name] for name in ("r", "lora_alpha", "target_modules") if name in options}
    started = []
    for cluster in (number + 1 for number in clusters):
        seed = run.config.train.seed + (cluster if own_seeds else 0)
        train = {**run.config.train.model_dump(), "only_cluster": cluster, "seed": seed}
        config = {"base": run.base, "method": "lora", "adapter": adapter, "train": train}
        kind = "own seeds" if own_seeds else "one seed"
        name, own = f"{cluster_name(cluster - 1)} alone ({kind})", run.config.train
        started.append(store.runs.start(run.corpus_id, config, name=name, selection=own.selection, edits=own.edits))
    return started


def _clusters(store: Store, run: Run) -> list[int]:
    """The numbers of the clusters, as somebody has edited them."""
    clustering = store.clusterings.latest(run.corpus_id, finished=True)
    if clustering is None or clustering.result is None:
        raise UserError("The corpus of this run has no clusters yet. Cluster it first, then break it down.")
    if clustering.result.k < 2:
        raise UserError("The corpus has only one cluster, so there is nothing to break down. Choose another k.")
    return clustering.result.all_numbers


def find_breakdown(store: Store, run: Run, *, own_seeds: bool = False) -> list[Run]:
    """The newest run of each cluster of this run's breakdown, by cluster; some may be unfinished or missing."""
    if run.is_imported or run.corpus_id is None:
        return []
    clustering = store.clusterings.latest(run.corpus_id, finished=True)
    found: dict[int, Run] = {}
    for other in store.runs.all():  # newest first
        if other.is_imported or other.method != "lora":
            continue
        cluster = other.config.train.only_cluster
        same = (other.corpus_id, other.base, *_trained_on(other), _rows_of(other)) == (
            run.corpus_id,
            run.base,
            *((clustering.id, clustering.grouping) if clustering else (None, "")),
            _rows_of(run),
        )
        seed = run.config.train.seed + (cluster if own_seeds else 0)
        if cluster and same and other.config.train.seed == seed:
            found.setdefault(cluster, other)
    return [found[cluster] for cluster in sorted(found)]


def _trained_on(run: Run) -> tuple[int | None, str]:
    """The clustering of a run, and the grouping that edits had made of it."""
    return run.clustering_id, run.grouping or ""


def _rows_of(run: Run) -> tuple[str, str]:
    """What decides the rows that a run learns: what is left out, and what was edited."""
    return run.config.train.selection, run.config.train.edits


def describe_breakdown(runs: list[Run]) -> dict[str, Any]:
    """How far a breakdown is: runs, finished ones, and whether all are done."""
    done = [run for run in runs if run.summary is not None]
    return {
        "runs": [run.id for run in runs],
        "finished": [run.id for run in done],
        "done": bool(runs) and len(done) == len(runs),
    }
