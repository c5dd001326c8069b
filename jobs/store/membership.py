"""In which cluster each example of a corpus lies, and what the clusters are called: the one place that says it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hydralora.corpus.clusters.places import Places, read_places
from hydralora.results import Clusters, cluster_name
from jobs.home import Home
from jobs.store.clusterings import Clusterings
from jobs.store.records import Clustering


@dataclass(frozen=True)
class Membership:
    """A clustering as it stands, with the place and cluster of every example.

    Args:
        names: What each cluster is called, by its number; empty for one that was merged into another.
    """

    clustering: Clustering
    places: Places
    names: list[str]

    @property
    def numbers(self) -> list[int]:
        """Numbers of the clusters there are."""
        return [number for number, name in enumerate(self.names) if name]

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each number, ``(numbers,)``; 0 for one that is gone."""
        return np.bincount(self.places.cluster, minlength=len(self.names))


def membership_of(home: Home, clusterings: Clusterings, corpus_id: int) -> Membership | None:
    """That of the newest clustering of a corpus, as somebody has edited it; None before the first has finished.

    Raises:
        CorpusError: When its files are gone or damaged.
    """
    clustering = clusterings.latest(corpus_id, finished=True)
    return None if clustering is None else membership_in(home, clusterings, clustering)


def membership_in(home: Home, clusterings: Clusterings, clustering: Clustering) -> Membership:
    """That of one clustering that has finished.

    Raises:
        CorpusError: When its files are gone or damaged.
    """
    places = read_places(home.clustering(clustering.id))
    if clustering.grouping:  # edits move no point
        places = replace(places, cluster=clusterings.numbers(clustering))
    return Membership(clustering, places, names_of(clustering.clusters))


def names_of(found: Clusters) -> list[str]:
    """What each cluster is called on page and map, by its number: that, and the name it was given or its first words;
    empty where there is none of that number any more."""
    names = [""] * found.next_number
    for number in found.all_numbers:
        shown = found.shown_name(number)
        names[number] = cluster_name(number) + (f" {shown}" if shown != cluster_name(number) else "")
    return names
