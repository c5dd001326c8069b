"""2-D maps of the A and B matrices of all layers, with a test of whether groups are real.

Each point is one matrix: A of a layer, or one head of a layer. Distances come first: between
matrices of one shape ``1 - similarity``, between matrices of different shapes 1 (they share no
space, so nothing can be said). The similarity is

- ``cosine``: |cosine| of the matrices as they are stored, as in the paper's figure 3. It asks
  whether the numbers agree, so it means something between layers of one run only;
- ``subspace``: the overlap of the spaces that A reads or B writes (mean squared cosine of the
  principal angles). It does not depend on how ``B A`` is split, so it may be used across runs.

t-SNE and UMAP read these distances; PCA becomes classical scaling of them. A map always comes with
the answer of a permutation test on the distances themselves, never on the picture.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hydralora.adapters.matrices import Module, count_modules, read_modules
from hydralora.errors import AdapterError
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress
from hydralora.results import GroupTest, MatrixMap, Point
from hydralora.results.maps import DISTANCES

LAYOUTS = ("pca", "tsne", "umap")
MATRICES = ("A", "B")
SIMILARITIES = ("cosine", "subspace")
PERMUTATIONS = 999
ENOUGH = 50  # shuffles as high as the labels themselves end a test
LEVEL = 0.01  # chance of a false finding over all groupings of one map
STABILITY_SEEDS = 3
NEIGHBOURS = 5


def matrix_distances(
    adapters: dict[str, Path],
    which: str,
    similarity: str = "cosine",
    *,
    progress: Progress = SILENT,
) -> tuple[list[Point], np.ndarray]:
    """Points and their distances ``(points, points)`` for the A or B matrices of the adapters.

    Raises:
        AdapterError: When there are fewer than four matrices to place, or raw matrices of several
            runs are to be compared.
        StoppedError: When asked to stop.
    """
    _check_choice("which", which, MATRICES)
    _check_choice("similarity", similarity, SIMILARITIES)
    if similarity == "cosine" and len(adapters) > 1:
        raise AdapterError(
            "Raw matrices of two runs cannot be compared: the same B A can be split in many ways. "
            "Set `similarity` to subspace, which does not depend on the split."
        )
    points: list[Point] = []
    rows: dict[tuple[int, ...], list[tuple[int, torch.Tensor]]] = {}
    total, done = sum(count_modules(adapter) for adapter in adapters.values()), 0
    for run, adapter in adapters.items():
        for module in read_modules(adapter):
            progress.check()
            done += 1
            progress.report(0.5 * done / total, f"{done:,} of {total:,} layers read")
            for expert, columns in _columns(module, which, similarity):
                rows.setdefault(tuple(columns.shape), []).append((len(points), columns))
                points.append(Point(run=run, module=module.name, layer=module.layer, kind=module.kind, expert=expert))
    if len(points) < 4:
        raise AdapterError(f"A map needs at least four matrices; there are {len(points)}.")
    distances = np.ones((len(points), len(points)), dtype=np.float64)
    for shape in list(rows):
        members = rows.pop(shape)
        places = np.array([place for place, _ in members])
        distances[np.ix_(places, places)] = 1.0 - _similarity([m for _, m in members], similarity)
    np.fill_diagonal(distances, 0.0)
    return points, distances


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise AdapterError(f"`{name}` must be one of {', '.join(allowed)}, got '{value}'.")


def _columns(module: Module, which: str, similarity: str) -> list[tuple[int, torch.Tensor]]:
    """Expert (-1 for A) and matrix with its directions as columns ``(width, r)``, orthonormal for ``subspace``."""
    matrices = [(-1, module.a.T)] if which == "A" else list(enumerate(module.heads))
    if similarity == "cosine":
        return [(expert, matrix.contiguous()) for expert, matrix in matrices]
    return [(expert, column_space(matrix)) for expert, matrix in matrices]


def column_space(matrix: torch.Tensor) -> torch.Tensor:
    """Orthonormal basis ``(width, r)`` of the columns, from their Gram matrix; zero columns where the rank is lower."""
    tall = matrix.double()
    values, vectors = torch.linalg.eigh(tall.T @ tall)
    kept = values > 1e-10 * values[-1].clamp(min=1e-30)  # squares of singular values
    basis = tall @ (vectors * (kept / values.clamp(min=1e-30).sqrt()))
    return basis.to(matrix.dtype)


def _similarity(matrices: list[torch.Tensor], similarity: str) -> np.ndarray:
    """``(points, points)`` in 0..1, from one product of all flattened or side-by-side matrices."""
    count, rank = len(matrices), matrices[0].shape[1]
    if similarity == "cosine":
        flat = torch.stack(matrices).flatten(1)  # (points, width r)
        flat /= flat.norm(dim=1, keepdim=True).clamp(min=1e-30)
        return (flat @ flat.T).abs().clamp(max=1.0).double().numpy()
    side = torch.cat(matrices, 1)  # (width, points r)
    squares = (side.T @ side).square_().view(count, rank, count, rank).sum((1, 3))  # (points, points)
    own = squares.diagonal().round().clamp(min=1.0)  # dimensions of each space
    return (squares / torch.minimum(own[:, None], own[None])).clamp(max=1.0).double().numpy()


def place_points(distances: np.ndarray, layout: str, seed: int = 0) -> np.ndarray:
    """Coordinates ``(points, 2)`` by ``pca`` (classical scaling), ``tsne`` or ``umap``, from ``(points, points)``.

    Raises:
        AdapterError: When the layout is none of these.
    """
    count = len(distances)
    if layout == "pca":
        centre = np.eye(count) - 1.0 / count
        values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
        return vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    if layout == "tsne":
        perplexity = min(30.0, max(2.0, (count - 1) / 3))
        from sklearn.manifold import TSNE  # costs a second, which the other layouts need not pay

        tsne = TSNE(2, metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
        with threadpool_limits(1):  # more threads make so few points 40 times slower on busy cores
            return tsne.fit_transform(distances)
    if layout == "umap":
        from umap import UMAP

        umap = UMAP(
            n_components=2,
            metric="precomputed",
            n_neighbors=min(15, count - 1),
            random_state=seed,
            init="random" if count < 10 else "spectral",
            n_jobs=1,
        )
        return umap.fit_transform(distances)
    raise AdapterError(f"`layout` must be one of {', '.join(LAYOUTS)}, got '{layout}'.")


def neighbour_stability(places: list[np.ndarray]) -> float:
    """Mean share of a point's nearest neighbours on one map ``(points, 2)`` that it keeps on the next, 0 to 1."""
    count = len(places[0])
    near = min(NEIGHBOURS, count - 1)
    sets = []
    for place in places:
        gaps = np.linalg.norm(place[:, None] - place[None], axis=-1)
        np.fill_diagonal(gaps, np.inf)
        sets.append([set(row) for row in np.argsort(gaps, axis=1)[:, :near]])
    shares = [len(a[i] & b[i]) / near for a, b in pairwise(sets) for i in range(count)]
    return float(np.mean(shares))


def mean_silhouette(distances: np.ndarray, groups: np.ndarray) -> float:
    """Mean silhouette ``(b - a) / max(a, b)`` of group numbers ``(points,)``; 0 for a point alone.

    ``a`` is the mean distance to the others of the own group, ``b`` the smallest mean distance to
    another group (Rousseeuw 1987).
    """
    places = np.arange(len(groups))
    sizes = np.bincount(groups)
    onehot = np.zeros((len(groups), len(sizes)))
    onehot[places, groups] = 1.0
    sums = distances @ onehot  # (points, groups)
    own = sums[places, groups] / np.maximum(sizes[groups] - 1, 1)
    means = sums / sizes
    means[places, groups] = np.inf
    other = means.min(1)
    scale = np.maximum(own, other)
    scores = np.where(scale > 0, (other - own) / np.where(scale > 0, scale, 1.0), 0.0)
    return float(np.where(sizes[groups] > 1, scores, 0.0).mean())


def check_grouping(
    distances: np.ndarray,
    labels: list[str],
    strata: list[str],
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[float, float]:
    """Do matrices with one label lie closer together than chance?

    The statistic is the mean silhouette of the labels on the distances; chance is the same after
    shuffling labels within strata (matrices of one shape), ``PERMUTATIONS`` times, or until
    ``ENOUGH`` shuffles were as high (Besag and Clifford 1991): then it is no finding anyway.

    Returns:
        The silhouette, and the p-value ``(1 + shuffles at least as high) / (1 + shuffles)``, or
        ``ENOUGH / shuffles`` where it stopped early.
    """
    names, groups = np.unique(labels, return_inverse=True)
    if not 2 <= len(names) < len(labels):
        return 0.0, 1.0
    observed = mean_silhouette(distances, groups)
    rng = np.random.default_rng(seed)
    blocks = [np.flatnonzero(np.array(strata) == name) for name in sorted(set(strata))]
    higher = 0
    for number in range(PERMUTATIONS):
        progress.check()
        shuffled = groups.copy()
        for block in blocks:
            shuffled[block] = groups[rng.permutation(block)]
        higher += mean_silhouette(distances, shuffled) >= observed - 1e-12
        if higher == ENOUGH:
            return observed, ENOUGH / (number + 1)
    return observed, (1 + higher) / (1 + PERMUTATIONS)


def draw_map(
    adapters: dict[str, Path],
    which: str = "B",
    layout: str = "pca",
    seed: int = 0,
    similarity: str = "cosine",
    *,
    out_folder: Path | None = None,
    progress: Progress = SILENT,
) -> MatrixMap:
    """Points, coordinates, stability over seeds, and what the permutation tests say.

    Writes ``map.json`` and the distances, ``distances.npy``, where an ``out_folder`` is given.

    Raises:
        AdapterError: When an argument is none of those there are, or there are fewer than four matrices.
        StoppedError: When asked to stop.
    """
    _check_choice("layout", layout, LAYOUTS)
    points, distances = matrix_distances(adapters, which, similarity, progress=progress)
    result = describe_map(points, distances, which, layout, seed, similarity, progress=progress)
    if out_folder is not None:
        out_folder.mkdir(parents=True, exist_ok=True)
        with written_aside(out_folder / DISTANCES) as aside, aside.open("wb") as file:
            np.save(file, distances.astype(np.float32), allow_pickle=False)
        result.write(out_folder)
    return result


def describe_map(
    points: list[Point],
    distances: np.ndarray,
    which: str,
    layout: str,
    seed: int = 0,
    similarity: str = "cosine",
    *,
    progress: Progress = SILENT,
) -> MatrixMap:
    """What ``draw_map`` gives, from points and distances ``(points, points)`` that are known already.

    Raises:
        StoppedError: When asked to stop.
    """
    progress.report(0.5, "Testing groups against shuffled labels")
    findings = find_groups(points, distances, seed, progress)
    progress.report(0.7, "Placing the matrices")
    place = place_points(distances, layout, seed)
    stability = 1.0
    if layout != "pca":
        others = []
        for i in range(1, STABILITY_SEEDS):
            progress.step(0.7 + 0.1 * i, f"Placing them again with seed {seed + i}")
            others.append(place_points(distances, layout, seed + i))
        stability = neighbour_stability([place, *others])
    return MatrixMap(
        which=which,
        layout=layout,
        seed=seed,
        similarity=similarity,
        stability=stability,
        points=points,
        x=place[:, 0].astype(float).round(5).tolist(),
        y=place[:, 1].astype(float).round(5).tolist(),
        findings=findings,
        sentence=_sentence(which, findings),
    )


def find_groups(
    points: list[Point], distances: np.ndarray, seed: int = 0, progress: Progress = SILENT
) -> list[GroupTest]:
    """Test grouping by layer, by expert and by run on distances ``(points, points)``; the tests share the level."""
    strata = [point.kind for point in points]
    groupings = {
        "layer": [str(point.layer) for point in points],
        "expert": [str(point.expert) for point in points],
        "run": [point.run for point in points],
    }
    tested = {name: labels for name, labels in groupings.items() if 1 < len(set(labels)) < len(labels)}
    findings = []
    for name, labels in tested.items():
        silhouette, p = check_grouping(distances, labels, strata, seed, progress)
        findings.append(GroupTest(by=name, silhouette=silhouette, p=p, real=bool(p <= LEVEL / max(len(tested), 1))))
    return findings


def _sentence(which: str, findings: list[GroupTest]) -> str:
    real = [finding for finding in findings if finding.real]
    if not real:
        return (
            f"No structure beyond chance: the {which} matrices do not group by "
            f"{' or '.join(finding.by for finding in findings) or 'anything'} more than shuffled "
            "labels do. Groups you may see in the picture are not evidence."
        )
    parts = [f"{finding.by} (p = {finding.p:.3f})" for finding in real]
    return f"The {which} matrices group by {' and by '.join(parts)} more than shuffled labels do."
