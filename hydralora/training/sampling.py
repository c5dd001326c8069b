"""Which examples a pass draws: clusters by a power of their size, each example of a cluster once before any twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from hydralora.results import cluster_name


def cluster_shares(sizes: np.ndarray, power: float) -> np.ndarray:
    """Share ``n_c^p / sum_k n_k^p`` of each cluster among the examples drawn, ``(clusters,)``; an empty one has none.

    Power 1 draws in proportion to size, 0 alike; between them lies what multilingual models are sampled by
    (exponent ``alpha``, Conneau et al. 2020, https://arxiv.org/abs/1911.02116, section 3.1).
    """
    weights = np.where(sizes > 0, np.maximum(sizes, 1).astype(float) ** power, 0.0)
    return weights / weights.sum()


class ClusterSampler(Sampler[int]):
    """Places of the rows of one pass, as many as there are rows; the same for the same seed and pass.

    Args:
        clusters: Cluster of every row, from 0.
        power: See ``cluster_shares``.
    """

    def __init__(self, clusters: Sequence[int], power: float, seed: int) -> None:
        self.clusters, self.seed, self.epoch = np.asarray(clusters), seed, 0
        self.sizes = np.bincount(self.clusters)
        self.shares = cluster_shares(self.sizes, power)

    def set_epoch(self, epoch: int) -> None:
        """Which pass comes next; a run that goes on draws what the undisturbed one would."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clusters)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        counts = random.multinomial(len(self.clusters), self.shares)
        drawn = [self._draw(random, cluster, count) for cluster, count in enumerate(counts) if count]
        return iter(random.permutation(np.concatenate(drawn)).tolist())

    def _draw(self, random: np.random.Generator, cluster: int, count: int) -> np.ndarray:
        members = np.flatnonzero(self.clusters == cluster)
        rounds = -(-count // len(members))
        return np.concatenate([random.permutation(members) for _ in range(rounds)])[:count]

    def told(self) -> str:
        """How often an example of each cluster is drawn in one pass, for people."""
        times = [
            f"{cluster_name(cluster)} {self.shares[cluster] * len(self) / size:.2g}"
            for cluster, size in enumerate(self.sizes)
            if size
        ]
        return f"In one pass an example is drawn this many times at the mean, by its cluster: {', '.join(times)}."


class LengthSampler(LengthGroupedSampler):
    """Places of the rows of one pass, steps of like length together; the same for the same seed and pass.

    transformers' own draws from the process's random numbers, so that a run that goes on would see other steps than
    the undisturbed one.

    Args:
        lengths: Tokens of every row.
        size: Rows of one optimizer step.
    """

    def __init__(self, lengths: list[int], size: int, seed: int) -> None:
        super().__init__(size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Which pass comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        (drawn,) = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
        self.generator = torch.Generator().manual_seed(int(drawn))
        return super().__iter__()
