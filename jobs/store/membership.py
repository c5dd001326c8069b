"""In which cluster each example of a corpus lies, and what the clusters are called: the one place that says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hydralora.corpus.clusters.places import Places, read_places
from hydralora.results import cluster_name
from jobs.home import Home
from jobs.store.clusterings import Clusterings
from jobs.store.records import Clustering


@dataclass(frozen=True)
class Membership:
    """A clustering with the place and cluster of every example, and a name for each of its clusters."""

    clustering: Clustering
    places: Places
    names: list[str]


def membership_of(home: Home, clusterings: Clusterings, corpus_id: int) -> Membership | None:
    """That of the newest clustering of a corpus; None before the first has finished.

    Raises:
        CorpusError: When its files are gone or damaged.
    """
    clustering = clusterings.latest(corpus_id, finished=True)
    return None if clustering is None else membership_in(home, clustering)


def membership_in(home: Home, clustering: Clustering) -> Membership:
    """That of one clustering that has finished.

    Raises:
        CorpusError: When its files are gone or damaged.
    """
    return Membership(clustering, read_places(home.clustering(clustering.id)), names_of(clustering))


def names_of(clustering: Clustering) -> list[str]:
    """What each cluster is called on page and map: its number, and the first of its words."""
    found = clustering.result
    if found is None:
        return []
    proposed = found.names or [", ".join(words[:3]) for words in found.words]
    return [f"{cluster_name(number)} {name}".rstrip() for number, name in enumerate(proposed)]


def sizes_of(places: Places, count: int) -> np.ndarray:
    """Examples in each of ``count`` clusters, ``(clusters,)``."""
    return np.bincount(places.cluster, minlength=count)
