"""Cluster a corpus: distinct texts to points, a number of clusters, groups, their names, and a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize

from hydralora.corpus.clusters.choice import Choice, Suggestion, compare_choices, find_elbow, suggest_experts
from hydralora.corpus.clusters.embeddings import embed_texts
from hydralora.corpus.clusters.labels import compare_labels
from hydralora.corpus.clusters.methods import Groups, group_points
from hydralora.corpus.clusters.naming import margins, shown_rows, telling_terms
from hydralora.corpus.clusters.options import EmbeddingsOptions, Method, Options, checked_method
from hydralora.corpus.clusters.texts import Texts
from hydralora.corpus.clusters.vectors import DIMENSIONS, MAX_DIMENSIONS, Space, fit_spaces
from hydralora.corpus.clusters.why import write_terms
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress
from hydralora.results import Clusters
from hydralora.results.clusters import ASSIGNMENTS

K_MAX = 12
FIT_TEXTS = 200  # distinct texts for each dimension that terms, template text and directions are learnt from
CHOICE_TEXTS = 4_000  # distinct texts on which every candidate k is tried


@dataclass(frozen=True)
class Placed:
    """Distinct texts with their points: places of the sample ``(sample,)`` with its TF-IDF rows, all points
    ``(distinct, dimensions)``, and the space in which numbers of clusters are tried."""

    texts: Texts
    space: Space
    choosing: Space
    sample: np.ndarray
    rows: csr_matrix
    points: np.ndarray
    has_terms: bool = True  # whether the points are sums over the terms

    def tried(self, places: np.ndarray) -> np.ndarray:
        """Points of unit length of some distinct texts, given as sorted places, on which numbers of clusters are tried,
        ``(places, dimensions)``: the same for every k that is asked for."""
        if not self.has_terms:
            return np.asarray(normalize(self.points[places, :DIMENSIONS]))
        return self.choosing.points(self.choosing.rows(self.texts.take(places)))


def cluster_corpus(
    corpus_folder: Path,
    out_folder: Path,
    *,
    k: int | None = None,
    seed: int = 0,
    method: str = "kmeans",
    options: dict[str, Any] | None = None,
    k_max: int = K_MAX,
    progress: Progress = SILENT,
) -> Clusters:
    """Cluster a corpus; write ``clusters.json``, ``assignments.parquet`` and ``terms.parquet`` to ``out_folder``.

    Args:
        k: Number of clusters, or None for the suggested number.
        method: Name of one of ``options.METHODS``; ``options`` are its options.

    Raises:
        CorpusError: When there are more clusters than distinct examples, or no word in any; when the method or an
            option is none, or the method finds no cluster or takes no number of them.
        StoppedError: When asked to stop; nothing is kept.
    """
    way, asked = checked_method(method, k, options or {})

    def step(share: float, text: str) -> None:
        progress.step(share, text, "The clustering")

    corpus = Corpus(corpus_folder)
    _check_k(k, len(corpus))
    step(0.02, f"Reading {len(corpus):,} examples")
    texts = Texts.of(corpus)
    _check_k(k, len(texts.first))
    placed = place_texts(texts, seed, k, step)
    if isinstance(asked, EmbeddingsOptions):
        placed = embed_texts(placed, asked.model, DIMENSIONS, step)
    choices, elbows = _choose(placed, seed, k_max, step)
    suggestion = suggest_experts(choices)
    step(0.8, f"Grouping {len(texts.first):,} distinct texts")
    groups = group_points(placed.points, np.bincount(texts.which), way, asked, k or suggestion.k, seed)
    step(0.9, "Naming the clusters")
    found = Found(corpus, placed, groups, way, asked)
    result = found.result(choices, elbows, suggestion, seed)
    step(0.95, "Writing the map")
    found.write(out_folder, result)
    return result


def place_texts(texts: Texts, seed: int, k: int | None, step: Callable[[float, str], None]) -> Placed:
    """Points of all distinct texts, by what a sample of them teaches."""
    dimensions = min(max(DIMENSIONS, 2 * (k or 0)), MAX_DIMENSIONS)
    sample = draw(len(texts.first), FIT_TEXTS * dimensions, seed)
    step(0.1, f"Counting words of {len(sample):,} distinct texts")
    space, rows, choosing = fit_spaces(texts.take(sample), seed, dimensions)
    if len(sample) == len(texts.first):
        return Placed(texts, space, choosing, sample, rows, space.points(rows))
    step(0.3, f"Placing {len(texts.first):,} distinct texts")
    points, end = np.empty((len(texts.first), space.directions.shape[1]), dtype=np.float32), 0
    for part in texts.each(lambda part: space.points(space.rows(part))):
        points[end : end + len(part)] = part
        end += len(part)
    return Placed(texts, space, choosing, sample, rows, points)


def draw(count: int, most: int, seed: int) -> np.ndarray:
    """Sorted places drawn by lot, ``(at most most,)``; all of them where there are no more."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _choose(
    placed: Placed, seed: int, k_max: int, step: Callable[[float, str], None]
) -> tuple[list[Choice], list[int]]:
    tried = placed.tried(draw(len(placed.points), CHOICE_TEXTS, seed))
    return compare_choices(tried, k_max, seed, lambda k: step(0.4 + 0.4 * k / k_max, f"Trying {k} clusters"))


def _check_k(k: int | None, available: int) -> None:
    if k is not None and not 1 <= k <= available:
        raise CorpusError(f"`k` must be between 1 and {available:,}, the number of distinct examples, got {k}.")


@dataclass(frozen=True)
class Found:
    """Groups of a corpus, as they are told and written."""

    corpus: Corpus
    placed: Placed
    groups: Groups
    method: Method
    options: Options

    @cached_property
    def margins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance, margin and next cluster of every distinct text, ``(distinct,)`` each."""
        return margins(self.placed.points, self.groups.cluster, self.groups.centres)

    def result(self, choices: list[Choice], elbows: list[int], suggestion: Suggestion, seed: int) -> Clusters:
        """All that is told of the groups."""
        which, first = self.placed.texts.which, self.placed.texts.first
        groups, k = self.groups, len(self.groups.centres)
        distance, margin, _ = self.margins
        nearest = groups.nearest(self.placed.points)
        words = words_of(nearest[self.placed.sample], self.placed.rows, k, self.placed.space)
        everywhere = nearest[which]
        return Clusters(
            k=k,
            suggested_k=suggestion.k,
            elbow_k=find_elbow([choice.inertia for choice in choices]),
            reason=suggestion.reason,
            seed=seed,
            examples=len(which),
            sizes=np.bincount(everywhere, minlength=k).tolist(),
            words=words,
            typical=[first[rows].tolist() for rows in shown_rows(distance, groups.cluster, k)],
            inertia={str(choice.k): choice.inertia for choice in choices},
            silhouette={str(choice.k): choice.silhouette for choice in choices},
            stability={str(choice.k): choice.agreement for choice in choices},
            terms=len(self.placed.space.weights),
            corpus_hash=self.corpus.manifest.content_hash,
            names=[", ".join(row[:3]) for row in words],
            distinct=len(first),
            low_k=suggestion.low,
            high_k=suggestion.high,
            is_clear=suggestion.is_clear,
            strength={str(choice.k): choice.strength for choice in choices},
            gap={str(choice.k): choice.gap for choice in choices},
            recurring={str(choice.k): choice.recurring for choice in choices},
            elbow_trials=sorted(elbows),
            borderline=[first[rows].tolist() for rows in shown_rows(margin, groups.cluster, k)] if k > 1 else [[]],
            method=self.method.name,
            options=self.options.told(),
            noise=int((groups.cluster[which] < 0).sum()),
            **compare_labels(self.corpus, everywhere, range(k)),
        )

    def write(self, folder: Path, result: Clusters) -> None:
        """Everything of every example into a table, the terms into another, then the result beside them."""
        which, points, groups = self.placed.texts.which, self.placed.points, self.groups
        distance, margin, other = self.margins
        flat = _flat_map(points)
        table = pa.table(
            {
                "example": np.arange(len(which), dtype=np.int64),
                "cluster": groups.nearest(points)[which].astype(np.int16),
                "distance": distance[which].astype(np.float32),
                "x": flat[which, 0].astype(np.float32),
                "y": flat[which, 1].astype(np.float32),
                "margin": margin[which].astype(np.float32),
                "other": other[which],
                "noise": groups.cluster[which] < 0,
            }
        )
        with written_aside(folder) as aside:
            aside.mkdir(parents=True)
            pq.write_table(table, aside / ASSIGNMENTS)
            if self.placed.has_terms:
                write_terms(aside, self.placed.space, groups.centres)
            result.write(aside)


def words_of(cluster: np.ndarray, rows: csr_matrix, k: int, space: Space) -> list[list[str]]:
    """The terms that name every cluster; counted are the texts of the sample that hold a term, times its rarity.

    Args:
        cluster: Of every text of the sample, ``(sample,)``, whose TF-IDF rows are ``rows`` ``(sample, terms)``.
    """
    places = (cluster, np.arange(len(cluster)))
    member = csr_matrix((np.ones(len(cluster), dtype=np.float32), places), shape=(k, len(cluster)))
    holds = rows.copy()
    holds.data = space.weights[holds.indices]
    terms = space.terms()
    return [[terms[term] for term in row] for row in telling_terms(member @ holds)]


def _flat_map(points: np.ndarray) -> np.ndarray:
    """``(texts, 2)``: the two directions of largest spread of the points."""
    mean = points.mean(0)
    if points.shape[1] < 2:
        return np.pad(points - mean, ((0, 0), (0, 2 - points.shape[1])))
    _, directions = np.linalg.eigh(points.T @ points - len(points) * np.outer(mean, mean))
    axes = directions[:, :-3:-1]
    axes *= np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return np.asarray(points @ axes - mean @ axes)
