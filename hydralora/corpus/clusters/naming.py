"""What a cluster is called by, and which rows show it: class-based TF-IDF, typical rows, borderline rows."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

WORDS = 8  # of one cluster
MARGIN_POINTS = 50_000  # measured at once
SHOWN = 5  # rows of one cluster that are shown as typical, and as borderline


def class_weights(counts: csr_matrix) -> np.ndarray:
    """Class-based TF-IDF of every term in every cluster, ``(clusters, terms)``, from counts of the same shape.

    ``W(t, c) = tf(t, c) * log(1 + A / f(t))`` with the share ``tf`` of a term among the words of a cluster, its
    frequency ``f`` over all clusters and the mean number ``A`` of words in a cluster (Grootendorst 2022, equation 2,
    https://arxiv.org/abs/2203.05794).
    """
    dense = np.asarray(counts.toarray(), dtype=np.float64)
    words = dense.sum(1, keepdims=True)
    frequency = np.maximum(dense.sum(0), 1e-12)
    return np.asarray(dense / np.maximum(words, 1) * np.log(1 + words.mean() / frequency))


def telling_terms(counts: csr_matrix) -> list[np.ndarray]:
    """Of every cluster the terms that name it, best first: high in class-based TF-IDF, and higher than elsewhere.

    The weight of a term in the other clusters is taken off: a small word is frequent everywhere and names nothing.
    """
    weight = class_weights(counts)
    elsewhere = (weight.sum(0) - weight) / max(len(weight) - 1, 1)
    gain = weight - elsewhere if len(weight) > 1 else weight
    best = np.argsort(-gain, axis=1, kind="stable")[:, :WORDS]
    return [row[gain[index, row] > 1e-12] for index, row in enumerate(best)]


def margins(points: np.ndarray, cluster: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every point the distance to its centre, how much further the next centre is, and which that is, ``(points,)``
    each.

    Points of no cluster (-1) are measured from the nearest centre, with a margin of nothing. Where there is one
    cluster the margin is nothing too, and the next one is -1.
    """
    own, margin = np.empty(len(points), dtype=np.float32), np.empty(len(points), dtype=np.float32)
    other = np.empty(len(points), dtype=np.int16)
    for begin in range(0, len(points), MARGIN_POINTS):
        part = slice(begin, begin + MARGIN_POINTS)
        own[part], margin[part], other[part] = _margins(points[part], cluster[part], centres)
    return own, margin, other


def _margins(points: np.ndarray, cluster: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    squares = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)[None]
    distance = np.sqrt(np.maximum(squares, 0))
    rows, there = np.arange(len(points)), np.where(cluster >= 0, cluster, distance.argmin(1))
    own = distance[rows, there]
    if len(centres) < 2:
        return own, np.zeros(len(points)), np.full(len(points), -1)
    distance[rows, there] = np.inf
    return own, np.where(cluster >= 0, distance.min(1) - own, 0.0), distance.argmin(1)


def shown_rows(order_by: np.ndarray, cluster: np.ndarray, k: int, count: int = SHOWN) -> list[list[int]]:
    """Of every cluster the places with the smallest values."""
    found = []
    for index in range(k):
        members = np.flatnonzero(cluster == index)
        found.append(members[np.argsort(order_by[members], kind="stable")[:count]].tolist())
    return found
