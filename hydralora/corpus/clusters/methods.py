"""Points to groups: k-means, HDBSCAN, DBSCAN. Their options stand in ``options``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.cluster import DBSCAN, HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from hydralora.corpus.clusters.options import DbscanOptions, HdbscanOptions, KMeansOptions, Method, Options
from hydralora.errors import CorpusError

MINI_BATCH_FROM = 50_000  # points; beyond them k-means goes through batches
BATCH = 4_096
SUMMED_POINTS = 50_000  # added up at once
START_POINTS, START_POINTS_EACH = 4_000, 40  # that beginnings are tried on: at least, and for each cluster
MOST_DENSITY_POINTS = 10_000  # that density is measured on: it needs distances between all; the rest join the nearest

Grouper = Callable[[np.ndarray, int, int, Any], np.ndarray]  # points, k, seed, options: cluster of every point


@dataclass(frozen=True)
class Groups:
    """The cluster of every point, -1 for noise, ``(points,)``, and the centres ``(clusters, dimensions)``."""

    cluster: np.ndarray
    centres: np.ndarray

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The cluster of every point, noise among the nearest one."""
        noise = np.flatnonzero(self.cluster < 0)
        if not len(noise):
            return self.cluster
        whole = self.cluster.copy()
        squares = (self.centres**2).sum(1)[None] - 2 * points[noise] @ self.centres.T
        whole[noise] = squares.argmin(1)
        return whole

    @classmethod
    def of(cls, cluster: np.ndarray, points: np.ndarray, copies: np.ndarray) -> Groups:
        """Groups with the means of their points; the one of the most copies first, where points stand for several."""
        names, number = np.unique(cluster, return_inverse=True)
        number = number - (names[0] < 0)  # noise stays -1
        inside = number >= 0
        order = np.argsort(-np.bincount(number[inside], copies[inside]), kind="stable")
        number = np.append(np.argsort(order), -1)[number]
        return cls(number, _means(points, number, len(order)))


def _means(points: np.ndarray, cluster: np.ndarray, k: int) -> np.ndarray:
    """The mean of the points of every cluster, ``(k, dimensions)``, added up a part at a time."""
    sums = np.zeros((k, points.shape[1]))
    for begin in range(0, len(points), SUMMED_POINTS):
        part, own = points[begin : begin + SUMMED_POINTS], cluster[begin : begin + SUMMED_POINTS]
        for index in np.unique(own[own >= 0]):
            sums[index] += part[own == index].sum(0, dtype=np.float64)
    return (sums / np.bincount(cluster[cluster >= 0], minlength=k)[:, None]).astype(points.dtype)


def _k_means(points: np.ndarray, k: int, seed: int, options: KMeansOptions) -> np.ndarray:
    """k-means (Lloyd 1982) from the tightest of several beginnings (k-means++), which are tried on a sample."""
    tried = points
    if len(points) > (most := max(START_POINTS, START_POINTS_EACH * k)):
        tried = points[np.random.default_rng(seed).choice(len(points), most, replace=False)]
    begun = KMeans(k, n_init=options.starts, random_state=seed).fit(tried)
    if len(tried) == len(points):
        return np.asarray(begun.labels_)
    kind = KMeans if len(points) <= MINI_BATCH_FROM else partial(MiniBatchKMeans, batch_size=BATCH)
    return np.asarray(kind(k, init=begun.cluster_centers_, n_init=1, random_state=seed).fit_predict(points))


def _hdbscan(points: np.ndarray, k: int, seed: int, options: HdbscanOptions) -> np.ndarray:
    smallest = max(5, round(options.min_cluster_share * len(points)))
    if len(points) < smallest:
        return np.full(len(points), -1)
    return np.asarray(
        HDBSCAN(min_cluster_size=smallest, min_samples=options.min_samples, copy=True).fit_predict(points)
    )


def _dbscan(points: np.ndarray, k: int, seed: int, options: DbscanOptions) -> np.ndarray:
    radius = options.radius or _usual_radius(points, options.min_samples)
    return np.asarray(DBSCAN(eps=radius, min_samples=options.min_samples).fit_predict(points))


def _usual_radius(points: np.ndarray, neighbours: int) -> float:
    """The median distance to the n-th nearest point: the k-distance graph of Ester et al. 1996, at its middle."""
    count = min(neighbours + 1, len(points))
    distance, _ = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(points)
    return float(max(np.median(distance[:, -1]), 1e-6))


def _on_a_sample(group: Grouper) -> Grouper:
    """Density on at most ``MOST_DENSITY_POINTS`` points; every other point goes where its nearest one of them went."""

    def grouped(points: np.ndarray, k: int, seed: int, options: Any) -> np.ndarray:
        if len(points) <= MOST_DENSITY_POINTS:
            return group(points, k, seed, options)
        chosen = np.sort(np.random.default_rng(seed).choice(len(points), MOST_DENSITY_POINTS, replace=False))
        cluster = group(points[chosen], k, seed, options)
        nearest = NearestNeighbors(n_neighbors=1).fit(points[chosen]).kneighbors(points, return_distance=False)
        return np.asarray(cluster[nearest[:, 0]])

    return grouped


GROUPERS: dict[str, Grouper] = {
    "kmeans": _k_means,
    "embeddings": _k_means,  # of other points
    "hdbscan": _on_a_sample(_hdbscan),
    "dbscan": _on_a_sample(_dbscan),
}


def group_points(points: np.ndarray, copies: np.ndarray, method: Method, options: Options, k: int, seed: int) -> Groups:
    """Group points of unit length ``(points, dimensions)``, the largest cluster first; ``copies``
    says how many examples each stands for, ``(points,)``.

    Raises:
        CorpusError: When density finds no cluster at all.
    """
    # One thread: sums of several threads come in another order each time, so clusters would differ in the last bit.
    with threadpool_limits(1):
        cluster = GROUPERS[method.name](points, k, seed, options)
    if (cluster < 0).all():
        raise CorpusError(
            f"{method.title} finds no cluster: all {len(points):,} distinct texts are noise to it. "
            "Take k-means, or larger neighbourhoods."
        )
    return Groups.of(cluster, points, copies)
