"""Split one cluster: k-means among its own texts, on the points that the whole corpus was clustered on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hydralora.corpus.clusters.choice import compare_choices, suggest_experts
from hydralora.corpus.clusters.clustering import CHOICE_TEXTS, K_MAX, Placed, draw, place_texts, words_of
from hydralora.corpus.clusters.edits import Parts, check_numbers, divide_cluster
from hydralora.corpus.clusters.grouping import Grouped
from hydralora.corpus.clusters.methods import Groups, group_points
from hydralora.corpus.clusters.naming import margins, shown_rows
from hydralora.corpus.clusters.options import KMEANS
from hydralora.corpus.clusters.texts import Texts
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.progress import SILENT, Progress
from hydralora.results import Clusters, cluster_name


def split_cluster(
    corpus_folder: Path,
    clusters_folder: Path,
    number: int,
    *,
    before: Clusters | None = None,
    k: int | None = None,
    asked_k: int | None = None,
    aside: str = "split",
    progress: Progress = SILENT,
) -> tuple[Clusters, str]:
    """Divide a cluster into ``k`` parts and keep the grouping; gives what is told of it, and its name.

    Args:
        clusters_folder: Of the clustering or grouping that stands.
        before: What is told of them, where edits have led there in another way than the folder tells of.
        k: Number of parts; None takes what the cluster's own texts suggest, two at least.
        asked_k: The number that the whole corpus was clustered into where somebody chose it: with the seed it decides
            the points.

    Raises:
        CorpusError: When there is no such cluster, or it has fewer distinct texts than parts.
        StoppedError: When asked to stop; nothing is kept.
    """
    before = before or Clusters.read(clusters_folder)
    check_numbers(before, [number])

    def step(share: float, text: str) -> None:
        progress.step(share, text, "The split")

    step(0.02, "Reading the examples")
    grouped, texts = Grouped.read(clusters_folder, before), Texts.of(Corpus(corpus_folder))
    placed = place_texts(texts, before.seed, asked_k, step)
    inside = np.flatnonzero(grouped.cluster[texts.first] == number)  # distinct texts of the cluster
    if len(inside) < max(k or 2, 2):
        texts_inside = "one distinct text" if len(inside) == 1 else f"{len(inside)} distinct texts"
        raise CorpusError(
            f"Cluster {cluster_name(number)} holds {texts_inside}, too few for {k or 2} parts. "
            "Choose fewer parts, or leave it whole."
        )
    k = k or _suggested(placed, inside, before.seed, step)
    step(0.85, f"Splitting {cluster_name(number)} into {k}")
    copies = np.bincount(texts.which)[inside]
    groups = group_points(placed.points[inside], copies, KMEANS, KMEANS.options(), k, before.seed)
    parts = _parts(placed, inside, groups)
    step(0.95, "Writing the grouping")
    after = divide_cluster(grouped, number, parts, corpus_folder)
    return after.result, after.write(corpus_folder, aside)


def _suggested(placed: Placed, inside: np.ndarray, seed: int, step: Callable[[float, str], None]) -> int:
    """The number of parts that the distinct texts ``inside`` ``(texts,)`` suggest, two at least."""
    tried = placed.tried(inside[draw(len(inside), CHOICE_TEXTS, seed)])
    most = min(K_MAX, len(tried))
    choices, _ = compare_choices(tried, most, seed, lambda k: step(0.4 + 0.4 * k / most, f"Trying {k} parts"))
    return max(2, suggest_experts(choices).k)


def _parts(placed: Placed, inside: np.ndarray, groups: Groups) -> Parts:
    """Groups of the distinct texts ``inside`` ``(texts,)`` as parts of their examples."""
    k, points, first = len(groups.centres), placed.points[inside], placed.texts.first[inside]
    distance, margin, other = margins(points, groups.cluster, groups.centres)
    place = np.full(len(placed.texts.first), -1)
    place[inside] = np.arange(len(inside))
    of_example = place[placed.texts.which]  # place among the cluster's texts, -1 outside
    members = np.flatnonzero(of_example >= 0)
    own = of_example[members]
    sampled = place[placed.sample]
    rows = placed.rows[np.flatnonzero(sampled >= 0)]
    return Parts(
        members=members,
        part=groups.cluster[own],
        distance=distance[own],
        margin=margin[own],
        other=other[own],
        words=words_of(groups.cluster[sampled[sampled >= 0]], rows, k, placed.space),
        typical=[first[rows].tolist() for rows in shown_rows(distance, groups.cluster, k)],
        borderline=[first[rows].tolist() for rows in shown_rows(margin, groups.cluster, k)],
        says=(placed.space.directions @ groups.centres.T).astype(np.float32),
    )
