"""Clusters of a corpus: TF-IDF, k-means, and how many experts the corpus seems to need.

The number of clusters is the number of experts HydraLoRA's authors suggest (Tian et al. 2024,
appendix B: TF-IDF, k-means, elbow; https://arxiv.org/abs/2404.19245). They give no rule for the
elbow, no seed and no TF-IDF settings; ours are written down here. Clusters never reach the
router: they only set N, and serve as a yardstick afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.preprocessing import normalize

from hydralora.corpus import Corpus
from hydralora.errors import CorpusError, StoppedError

MAX_TERMS = 20_000
SVD_DIMENSIONS = 20  # on which k is chosen; 2 k where more clusters are asked for
MAX_CHARACTERS_READ = 4_000  # of one example; its beginning decides its cluster
SAMPLE_FOR_CHOICE = 4_000  # examples on which every candidate k is tried
CLEAR_STABILITY = 0.95  # mean adjusted Rand index between seeds
CLEAR_SILHOUETTE = 0.12
# Silhouette times stability that counts as separated. Measured: mixtures of tasks reach 0.11 to
# 0.36; one kind of text (grade-school maths, one novel, small stories) 0.02 to 0.09.
MIN_SCORE = 0.10
TYPICAL = 5  # examples nearest to a cluster's centre that are shown
WORDS = 8

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Choice:
    """What speaks for one k: silhouette, and agreement of partitions over seeds (ARI)."""

    k: int
    inertia: float
    silhouette: float
    stability: float


def embed_texts(
    texts: list[str], seed: int, dimensions: int = SVD_DIMENSIONS
) -> tuple[csr_matrix, np.ndarray, list[str]]:
    """TF-IDF rows, their unit-length SVD coordinates ``(examples, dimensions)``, and the terms.

    Words of every script count, numbers are one term each, English stop words are dropped, and
    counts enter as ``1 + log(count)``.
    """
    vectorizer = TfidfVectorizer(
        max_features=MAX_TERMS, sublinear_tf=True, stop_words="english", max_df=0.5,
        min_df=2 if len(texts) >= 50 else 1, token_pattern=r"(?u)\b\w\w+\b|[^\W\d_]",
        dtype=np.float32,
    )  # fmt: skip
    try:
        tfidf = vectorizer.fit_transform(texts)
    except ValueError:
        vectorizer.set_params(max_df=1.0, min_df=1, stop_words=None)
        try:
            tfidf = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise CorpusError("The examples hold no words to compare. Check the corpus.") from error
    dimensions = max(2, min(dimensions, tfidf.shape[1] - 1, len(texts) - 1))
    if tfidf.shape[1] <= 2:
        return tfidf, normalize(tfidf.toarray()), list(vectorizer.get_feature_names_out())
    reduced = TruncatedSVD(dimensions, random_state=seed).fit_transform(tfidf)
    return tfidf, normalize(reduced), list(vectorizer.get_feature_names_out())


def compare_choices(points: np.ndarray, k_max: int, seed: int, step: Callable[[int], None]) -> list[Choice]:
    """Try k = 1 .. ``k_max``: sum of squared distances, silhouette, stability over seeds."""
    rng = np.random.default_rng(seed)
    size = min(len(points), SAMPLE_FOR_CHOICE)
    sample = points[rng.choice(len(points), size, replace=False)]
    spread = float(((sample - sample.mean(0)) ** 2).sum())
    choices = [Choice(1, spread, 0.0, 1.0)]
    for k in range(2, min(k_max, len(np.unique(sample, axis=0)) - 1) + 1):
        step(k)
        fits = [KMeans(k, n_init=2, random_state=seed + offset).fit(sample) for offset in range(3)]
        best = min(fits, key=lambda fit: fit.inertia_)
        pairs = [adjusted_rand_score(fits[i].labels_, fits[j].labels_)
                 for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
        score = silhouette_score(sample, best.labels_, sample_size=min(size, 2_000), random_state=seed)
        choices.append(Choice(k, float(best.inertia_), float(score), float(np.mean(pairs))))
    return choices


def find_elbow(choices: list[Choice]) -> int:
    """The k farthest below the straight line from the first to the last point of SSE(k)."""
    if len(choices) < 3:
        return 1
    sse = np.array([choice.inertia for choice in choices])
    sse = (sse - sse[-1]) / max(sse[0] - sse[-1], 1e-12)  # 1 .. 0
    line = np.linspace(1.0, 0.0, len(sse))
    return choices[int(np.argmax(line - sse))].k


def suggest_experts(choices: list[Choice]) -> tuple[int, str]:
    """The number of experts the corpus speaks for, and the reason in plain words.

    First the smallest k on which all seeds agree (``CLEAR_STABILITY``) with clusters that lie
    apart (``CLEAR_SILHOUETTE``, and half of the best silhouette). Else the smallest k within
    10 % of the best score, silhouette times stability. Where no score reaches ``MIN_SCORE``, one.
    """
    scores = {choice.k: choice.silhouette * choice.stability for choice in choices[1:]}
    top = max(scores.values(), default=0.0)
    apart = max(CLEAR_SILHOUETTE, 0.5 * max((choice.silhouette for choice in choices), default=0.0))
    clear = [choice for choice in choices[1:]
             if choice.stability >= CLEAR_STABILITY and choice.silhouette >= apart]  # fmt: skip
    if not clear and top < MIN_SCORE:
        return 1, (
            "One expert is enough: no number of clusters separates these texts. The best score "
            f"(silhouette times agreement over seeds) is {top:.3f}; {MIN_SCORE} would be needed."
        )
    chosen = clear[0] if clear else next(c for c in choices[1:] if scores[c.k] >= 0.9 * top)
    return chosen.k, (
        f"{chosen.k} clusters lie apart (silhouette {chosen.silhouette:.2f}, where 0 is touching "
        f"and 1 far apart) and three seeds agree on them ({chosen.stability:.2f} of 1)."
    )


def cluster_corpus(
    corpus_folder: Path,
    out_folder: Path,
    *,
    k: int | None = None,
    seed: int = 0,
    k_max: int = 12,
    report: Report = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Cluster a corpus and write ``clusters.json`` and ``assignments.parquet`` to ``out_folder``.

    Args:
        k: Number of clusters, or None for the suggested number.

    Raises:
        CorpusError: When there are more clusters than distinct examples.
        StoppedError: When asked to stop; nothing is kept.
    """
    corpus = Corpus(corpus_folder)
    texts = [example.text()[:MAX_CHARACTERS_READ] for example in corpus]
    labels = [example.label for example in corpus]
    _check_k(k, len(texts))

    def step(share: float, text: str) -> None:
        if should_stop():
            raise StoppedError("Clustering was stopped; nothing was kept.")
        report(share, text)

    step(0.05, f"Counting words of {len(texts):,} examples")
    tfidf, points, terms = embed_texts(texts, seed, max(SVD_DIMENSIONS, 2 * (k or 0)))
    distinct = len(np.unique(points.round(6), axis=0))
    _check_k(k, distinct)
    limit = min(k_max, distinct - 1)
    choices = compare_choices(
        normalize(points[:, :SVD_DIMENSIONS]),
        limit,
        seed,
        lambda n: step(0.2 + 0.6 * n / limit, f"Trying {n} clusters"),
    )
    suggested, reason = suggest_experts(choices)
    chosen = k or suggested
    step(0.85, f"Forming {chosen} clusters")
    fit = KMeans(chosen, n_init=5, random_state=seed).fit(points)
    order = np.argsort(-np.bincount(fit.labels_, minlength=chosen), kind="stable")
    cluster = np.argsort(order)[fit.labels_]  # largest cluster first
    distance = np.linalg.norm(points - fit.cluster_centers_[fit.labels_], axis=1)
    result = {
        "k": chosen, "suggested_k": suggested, "elbow_k": find_elbow(choices), "reason": reason,
        "seed": seed,
        "examples": len(texts), "sizes": np.bincount(cluster, minlength=chosen).tolist(),
        "words": _top_words(tfidf, terms, cluster, chosen),
        "typical": _typical(cluster, distance, chosen),
        "inertia": {str(choice.k): choice.inertia for choice in choices},
        "silhouette": {str(choice.k): choice.silhouette for choice in choices},
        "stability": {str(choice.k): choice.stability for choice in choices},
        "nmi": _agreement(labels, cluster), "terms": len(terms),
        "corpus_hash": corpus.manifest["content_hash"],
    }  # fmt: skip
    step(0.95, "Writing the map")
    _write(out_folder, result, cluster, distance, _flat_map(points, seed))
    return result


def _check_k(k: int | None, available: int) -> None:
    if k is not None and not 1 <= k <= available:
        raise CorpusError(f"`k` must be between 1 and {available:,}, the number of distinct examples, got {k}.")


def _flat_map(points: np.ndarray, seed: int) -> np.ndarray:
    """``(examples, 2)``: the two directions of largest spread of the unit-length coordinates."""
    centred = points - points.mean(0)
    if centred.shape[1] <= 2:
        return np.pad(centred, ((0, 0), (0, 2 - centred.shape[1])))
    return TruncatedSVD(2, random_state=seed).fit_transform(centred)


def _top_words(tfidf: csr_matrix, terms: list[str], cluster: np.ndarray, k: int) -> list[list[str]]:
    """Per cluster the terms whose mean weight exceeds the corpus mean most."""
    overall = np.asarray(tfidf.mean(0)).ravel()
    words = []
    for index in range(k):
        mean = np.asarray(tfidf[cluster == index].mean(0)).ravel()
        gain = mean - overall if k > 1 else mean
        words.append([terms[i] for i in np.argsort(-gain)[:WORDS] if gain[i] > 0])
    return words


def _typical(cluster: np.ndarray, distance: np.ndarray, k: int) -> list[list[int]]:
    nearest = []
    for index in range(k):
        members = np.flatnonzero(cluster == index)
        nearest.append(members[np.argsort(distance[members])[:TYPICAL]].tolist())
    return nearest


def _agreement(labels: list[str], cluster: np.ndarray) -> float | None:
    """Normalised mutual information with the corpus' own labels, where it has several."""
    known = [i for i, label in enumerate(labels) if label]
    names = {labels[i] for i in known}
    if len(names) < 2 or len(names) > len(known) // 2:
        return None
    return float(normalized_mutual_info_score([labels[i] for i in known], cluster[known]))


def _write(folder: Path, result: dict[str, Any], cluster: np.ndarray, distance: np.ndarray, flat: np.ndarray) -> None:
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        table = pa.table(
            {"example": np.arange(len(cluster), dtype=np.int64), "cluster": cluster.astype(np.int16),
             "distance": distance.astype(np.float32), "x": flat[:, 0].astype(np.float32),
             "y": flat[:, 1].astype(np.float32)}
        )  # fmt: skip
        pq.write_table(table, aside / "assignments.parquet")
        (aside / "clusters.json").write_text(json.dumps(result, ensure_ascii=False, indent=1), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
