"""Clusters beside the labels of a corpus: a table, and two measures of how well they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hydralora.corpus.folder import Corpus

MOST_LABELS = 100  # that the table lists, the most frequent first


def compare_labels(corpus: Corpus, cluster: np.ndarray, numbers: Sequence[int]) -> dict[str, Any]:
    """``nmi``, ``ari`` and the table of labels and clusters, where the corpus has several labels that repeat.

    Args:
        cluster: Cluster of every example, ``(examples,)``.
        numbers: The clusters that the table lists, in order, ``(k,)``; every example is in one of them.
    """
    names, label = corpus.labels()
    known = np.isin(label, [place for place, name in enumerate(names) if name])
    label, cluster = label[known], cluster[known]
    different = len(np.unique(label))
    if different < 2 or different > len(label) // 2:
        return {}
    counts = np.zeros((len(names), max(numbers) + 1), dtype=np.int64)
    np.add.at(counts, (label, cluster), 1)
    counts = counts[:, list(numbers)]
    listed = np.argsort(-counts.sum(1), kind="stable")[: min(different, MOST_LABELS)]
    return {
        "nmi": mutual_information(counts),
        "ari": rand_index(counts),
        "labels": [names[place] for place in listed],
        "label_table": counts[listed].tolist(),
    }


def mutual_information(counts: np.ndarray) -> float:
    """Normalised mutual information ``2 I / (H + H)`` of a table of counts ``(labels, clusters)``, 0 to 1."""
    shares = counts / counts.sum()
    own, other, both = (_entropy(part) for part in (shares.sum(1), shares.sum(0), shares))
    if own + other == 0:
        return 1.0
    return float(np.clip(2 * (own + other - both) / (own + other), 0.0, 1.0))


def _entropy(shares: np.ndarray) -> float:
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def rand_index(counts: np.ndarray) -> float:
    """Adjusted Rand index of a table of counts ``(labels, clusters)``, up to 1 (Hubert and Arabie 1985,
    https://doi.org/10.1007/BF01908075): pairs that are together in both, less what chance gives."""
    together, labels, clusters, all_pairs = (
        float((n * (n - 1.0) / 2).sum()) for n in (counts, counts.sum(1), counts.sum(0), counts.sum())
    )
    chance, most = labels * clusters / max(all_pairs, 1.0), (labels + clusters) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)
