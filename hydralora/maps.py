"""2-D maps of the A and B matrices of all layers, with a test of whether groups are real.

Each point is one matrix: A of a layer, or one head of a layer. Distances come first: between
matrices of one shape ``1 - |cosine|``, between matrices of different shapes 1 (they share no
space, so nothing can be said). t-SNE and UMAP read these distances; PCA becomes classical
scaling of them. A map always comes with the answer of a permutation test on the distances
themselves, never on the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from threadpoolctl import threadpool_limits

from hydralora.errors import AdapterError
from hydralora.weights import read_modules

LAYOUTS = ("pca", "tsne", "umap")
MATRICES = ("A", "B")
PERMUTATIONS = 999
LEVEL = 0.01  # chance of a false finding over all groupings of one map
STABILITY_SEEDS = 3
NEIGHBOURS = 5


@dataclass(frozen=True)
class Point:
    """One matrix on the map: where it sits in the model."""

    run: str
    module: str
    layer: int
    kind: str
    expert: int  # -1 for A


def matrix_distances(adapters: dict[str, Path], which: str) -> tuple[list[Point], np.ndarray]:
    """Points and their distances ``(points, points)`` for the A or B matrices of the adapters.

    Raises:
        AdapterError: When there are fewer than four matrices to place.
    """
    if which not in MATRICES:
        raise AdapterError(f"`which` must be one of {', '.join(MATRICES)}, got '{which}'.")
    points: list[Point] = []
    rows: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    for run, adapter in adapters.items():
        for module in read_modules(adapter):
            matrices = [module.a] if which == "A" else list(module.heads)
            for index, matrix in enumerate(matrices):
                flat = matrix.numpy().ravel()
                rows.setdefault(tuple(matrix.shape), []).append((len(points), flat))
                expert = index if which == "B" else -1
                points.append(Point(run, module.name, module.layer, module.kind, expert))
    if len(points) < 4:
        raise AdapterError(f"A map needs at least four matrices; there are {len(points)}.")
    distances = np.ones((len(points), len(points)), dtype=np.float64)
    for members in rows.values():
        places = np.array([position for position, _ in members])
        stack = np.stack([flat for _, flat in members])
        stack /= np.maximum(np.linalg.norm(stack, axis=1, keepdims=True), 1e-30)
        distances[np.ix_(places, places)] = 1.0 - np.clip(np.abs(stack @ stack.T), 0.0, 1.0)
    np.fill_diagonal(distances, 0.0)
    return points, distances


def place_points(distances: np.ndarray, layout: str, seed: int = 0) -> np.ndarray:
    """Coordinates ``(points, 2)`` by ``pca`` (classical scaling), ``tsne`` or ``umap``."""
    count = len(distances)
    if layout == "pca":
        centre = np.eye(count) - 1.0 / count
        values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
        return vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    if layout == "tsne":
        perplexity = min(30.0, max(2.0, (count - 1) / 3))
        tsne = TSNE(2, metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
        with threadpool_limits(1):  # more threads make so few points 40 times slower on busy cores
            return tsne.fit_transform(distances)
    if layout == "umap":
        from umap import UMAP

        umap = UMAP(n_components=2, metric="precomputed", n_neighbors=min(15, count - 1), random_state=seed,
                    init="random" if count < 10 else "spectral", n_jobs=1)  # fmt: skip
        return umap.fit_transform(distances)
    raise AdapterError(f"`layout` must be one of {', '.join(LAYOUTS)}, got '{layout}'.")


def neighbour_stability(places: list[np.ndarray]) -> float:
    """Mean share of a point's nearest neighbours on one map that it keeps on the next, 0 to 1."""
    count = len(places[0])
    near = min(NEIGHBOURS, count - 1)
    sets = []
    for place in places:
        gaps = np.linalg.norm(place[:, None] - place[None], axis=-1)
        np.fill_diagonal(gaps, np.inf)
        sets.append([set(row) for row in np.argsort(gaps, axis=1)[:, :near]])
    shares = [len(a[i] & b[i]) / near for a, b in pairwise(sets) for i in range(count)]
    return float(np.mean(shares))


def check_grouping(distances: np.ndarray, labels: list[str], strata: list[str], seed: int = 0) -> tuple[float, float]:
    """Do matrices with one label lie closer together than chance?

    The statistic is the mean silhouette of the labels on the distances; chance is the same after
    shuffling labels within strata (matrices of one shape), ``PERMUTATIONS`` times.

    Returns:
        The silhouette, and the p-value ``(1 + shuffles at least as high) / (1 + shuffles)``.
    """
    names, groups = np.unique(labels, return_inverse=True)
    if not 2 <= len(names) < len(labels):
        return 0.0, 1.0
    observed = float(silhouette_samples(distances, groups, metric="precomputed").mean())
    rng = np.random.default_rng(seed)
    blocks = [np.flatnonzero(np.array(strata) == name) for name in sorted(set(strata))]
    higher = 0
    for _ in range(PERMUTATIONS):
        shuffled = groups.copy()
        for block in blocks:
            shuffled[block] = groups[rng.permutation(block)]
        score = silhouette_samples(distances, shuffled, metric="precomputed").mean()
        higher += score >= observed - 1e-12
    return observed, (1 + higher) / (1 + PERMUTATIONS)


def draw_map(adapters: dict[str, Path], which: str = "B", layout: str = "pca", seed: int = 0) -> dict[str, Any]:
    """Points, coordinates, stability over seeds, and what the permutation tests say."""
    points, distances = matrix_distances(adapters, which)
    place = place_points(distances, layout, seed)
    stability = 1.0
    if layout != "pca":
        others = [place_points(distances, layout, seed + i) for i in range(1, STABILITY_SEEDS)]
        stability = neighbour_stability([place, *others])
    findings = find_groups(points, distances, seed)
    return {
        "which": which, "layout": layout, "seed": seed, "stability": stability,
        "points": [vars(point) for point in points],
        "x": place[:, 0].astype(float).round(5).tolist(),
        "y": place[:, 1].astype(float).round(5).tolist(),
        "findings": findings, "sentence": _sentence(which, findings),
    }  # fmt: skip


def find_groups(points: list[Point], distances: np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
    """Test grouping by layer, by expert and by run; the level is shared among the tests."""
    strata = [point.kind for point in points]
    groupings = {
        "layer": [str(point.layer) for point in points],
        "expert": [str(point.expert) for point in points],
        "run": [point.run for point in points],
    }
    tested = {name: labels for name, labels in groupings.items() if 1 < len(set(labels)) < len(labels)}
    findings = []
    for name, labels in tested.items():
        silhouette, p = check_grouping(distances, labels, strata, seed)
        findings.append({"by": name, "silhouette": silhouette, "p": p,
                         "real": bool(p <= LEVEL / max(len(tested), 1))})  # fmt: skip
    return findings


def _sentence(which: str, findings: list[dict[str, Any]]) -> str:
    real = [finding for finding in findings if finding["real"]]
    if not real:
        return (
            f"No structure beyond chance: the {which} matrices do not group by "
            f"{' or '.join(finding['by'] for finding in findings) or 'anything'} more than shuffled "
            "labels do. Groups you may see in the picture are not evidence."
        )
    parts = [f"{finding['by']} (p = {finding['p']:.3f})" for finding in real]
    return f"The {which} matrices group by {' and by '.join(parts)} more than shuffled labels do."
