"""A map of a corpus by UMAP (McInnes et al. 2018, https://arxiv.org/abs/1802.03426), in the place of two directions.

UMAP keeps neighbours together and says nothing by distances between groups. It takes long, so it is fitted on a sample
of the distinct texts; each other text stands at the mean of its nearest ones of the sample, nearer ones counting more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hydralora.corpus.clusters.clustering import place_texts
from hydralora.corpus.clusters.texts import Texts
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.files import written_aside
from hydralora.progress import SILENT, Progress
from hydralora.results import Clusters
from hydralora.results.clusters import LAYOUT, Layout

FITTED = 20_000  # distinct texts that UMAP itself places
LEAST = 12  # distinct texts below which neighbours mean nothing
NEIGHBOURS = 15
NEAREST = 3  # of the sample, for a text that is not in it
PIECE = 2_000  # texts whose distances are held at once


def lay_out(corpus_folder: Path, clusters_folder: Path, *, progress: Progress = SILENT) -> Layout:
    """Place every example of a clustering by UMAP; writes ``layout.parquet`` beside it, in the place of an earlier one.

    The same corpus and seed give the same map on one machine.

    Raises:
        CorpusError: When there are too few distinct texts.
        StoppedError: When asked to stop; the map stays as it was.
    """

    def step(share: float, text: str) -> None:
        progress.step(share, text, "The map")

    clusters, corpus = Clusters.read(clusters_folder), Corpus(corpus_folder)
    step(0.02, f"Reading {len(corpus):,} examples")
    texts = Texts.of(corpus)
    count = len(texts.first)
    if count < LEAST:
        raise CorpusError(f"The corpus has {count} distinct texts; a map by UMAP needs {LEAST}. Stay with this one.")
    points = place_texts(texts, clusters.seed, clusters.k, lambda share, text: step(share / 2, text)).points
    sample = np.arange(count)
    if count > FITTED:
        sample = np.sort(np.random.default_rng(clusters.seed).choice(count, FITTED, replace=False))
    step(0.3, f"Placing {len(sample):,} of {count:,} distinct texts by UMAP")
    placed = _fit(points[sample], clusters.seed)
    step(0.9, "Placing the others")
    flat = placed if len(sample) == count else beside(points, points[sample], placed)
    x, y = (flat[texts.which, axis].astype(np.float32) for axis in (0, 1))
    with written_aside(clusters_folder / LAYOUT) as aside:
        pq.write_table(pa.table({"x": x, "y": y}), aside)
    return Layout(method="umap", examples=len(x), fitted=len(sample))


def _fit(points: np.ndarray, seed: int) -> np.ndarray:
    """``(texts, 2)`` by UMAP."""
    from umap import UMAP  # it compiles itself for some seconds

    umap = UMAP(
        n_components=2,
        n_neighbors=min(NEIGHBOURS, len(points) - 1),
        random_state=seed,
        n_jobs=1,
        init="pca",
        min_dist=0.1,
    )
    return np.asarray(umap.fit_transform(points))


def beside(points: np.ndarray, sample: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """``(texts, 2)``: the mean of the places of the nearest texts of the sample, by inverse distance."""
    flat = np.empty((len(points), 2), dtype=np.float32)
    squares = (sample**2).sum(1)
    for start in range(0, len(points), PIECE):
        part = points[start : start + PIECE]
        far = (part**2).sum(1)[:, None] + squares - 2 * part @ sample.T  # squared distances, (part, sample)
        near = np.argpartition(far, NEAREST, axis=1)[:, :NEAREST]
        weight = 1 / (np.sqrt(np.maximum(np.take_along_axis(far, near, axis=1), 0)) + 1e-6)
        weight /= weight.sum(1, keepdims=True)
        flat[start : start + PIECE] = (placed[near] * weight[..., None]).sum(1)
    return flat
