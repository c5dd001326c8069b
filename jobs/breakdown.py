"""The breakdown experiment: one plain LoRA for each cluster of a run's corpus, to lay their matrices side by side.

It is the paper's opening experiment (Tian et al. 2024, figure 3, https://arxiv.org/abs/2404.19245). Its
runs are found by their settings, so nothing else is kept: LoRA, ``only_cluster``, the seed, and the corpus,
clusters and base of the run it was started from.
"""

from __future__ import annotations

from typing import Any

from hydralora.errors import UserError
from jobs.records import Run
from jobs.store import Store


def start_breakdown(store: Store, run_id: int, *, own_seeds: bool = False) -> list[Run]:
    """Queue one LoRA run for each cluster, with the rank, targets and training settings of a run.

    Args:
        own_seeds: Start each from random numbers of its own; else all begin with the same A, as one
            training script run k times does.

    Raises:
        UserError: When the run's corpus has no clusters, or only one.
    """
    run = store.run(run_id)
    if run.is_imported or run.corpus_id is None:
        raise UserError(
            f"Run {run_id} was not trained here, so its settings are not known. Start from a run of this studio."
        )
    clusters = _count_clusters(store, run)
    adapter = {
        name: run.config["adapter"][name] for name in ("rank", "alpha", "targets") if name in run.config["adapter"]
    }
    started = []
    for cluster in range(1, clusters + 1):
        seed = run.config["train"]["seed"] + (cluster if own_seeds else 0)
        train = {**run.config["train"], "only_cluster": cluster, "seed": seed}
        config = {"base": run.config["base"], "method": "lora", "adapter": adapter, "train": train}
        kind = "own seeds" if own_seeds else "one seed"
        started.append(store.start_run(run.corpus_id, config, name=f"C{cluster} alone ({kind})"))
    return started


def _count_clusters(store: Store, run: Run) -> int:
    clustering = store.latest_clustering(run.corpus_id, finished=True)
    if clustering is None or clustering.result is None:
        raise UserError("The corpus of this run has no clusters yet. Cluster it first, then break it down.")
    if clustering.result["k"] < 2:
        raise UserError("The corpus has only one cluster, so there is nothing to break down. Choose another k.")
    return int(clustering.result["k"])


def find_breakdown(store: Store, run: Run, *, own_seeds: bool = False) -> list[Run]:
    """The newest run of each cluster of this run's breakdown, by cluster; some may be unfinished or missing."""
    if run.is_imported or run.corpus_id is None:
        return []
    clustering = store.latest_clustering(run.corpus_id, finished=True)
    found: dict[int, Run] = {}
    for other in store.runs():  # newest first
        cluster = other.config["train"].get("only_cluster", 0)
        same = (other.corpus_id, other.config["base"], other.clustering_id) == (
            run.corpus_id, run.config["base"], clustering.id if clustering else None,
        )  # fmt: skip
        seed = run.config["train"]["seed"] + (cluster if own_seeds else 0)
        if (
            cluster
            and same
            and not other.is_imported
            and other.config["method"] == "lora"
            and other.config["train"]["seed"] == seed
        ):
            found.setdefault(cluster, other)
    return [found[cluster] for cluster in sorted(found)]


def describe_breakdown(runs: list[Run]) -> dict[str, Any]:
    """How far a breakdown is: runs, finished ones, and whether all are done."""
    done = [run for run in runs if run.summary is not None]
    return {
        "runs": [run.id for run in runs],
        "finished": [run.id for run in done],
        "done": bool(runs) and len(done) == len(runs),
    }
