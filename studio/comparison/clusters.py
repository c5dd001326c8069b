"""Exact match by cluster: of each group of runs on the questions that lie in each cluster of their corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hydralora.errors import CorpusError
from jobs.store.membership import membership_of
from jobs.store.store import Store
from studio.comparison.groups import Compared, common_questions, hits_on
from studio.comparison.statistics import Difference, compare_hits


@dataclass(frozen=True)
class ClusterRow:
    """One cluster: how many common questions lie in it, what share of them each group has right (mean over its runs),
    and how the second group differs from the first where there are two."""

    number: int
    name: str
    questions: int
    shares: tuple[float, ...]
    apart: Difference | None


def cluster_rows(store: Store, compared: Compared) -> tuple[list[str], list[ClusterRow], str]:
    """Names of the groups that have answers, a row for each cluster, and why there is none, as a sentence."""
    groups = [group for group in compared.groups if group.scores]
    names = [group.name for group in groups]
    if not groups:
        return names, [], "No answers are measured yet."
    questions = common_questions(groups)
    if questions is None:
        return names, [], "These runs were not asked the same questions."
    corpus_id = next(line.corpus_id for line in groups[0].lines if line.score is not None)
    try:
        membership = membership_of(store.home, store.clusterings, corpus_id) if corpus_id is not None else None
    except CorpusError as error:
        return names, [], str(error)
    if membership is None:
        return names, [], "The corpus has no clusters yet. Cluster it on the page of the corpus."
    if questions[-1] >= len(membership.places.cluster):
        return names, [], "The corpus was read again since its clusters were found. Cluster it anew."
    cluster = membership.places.cluster[questions]
    hits = [hits_on(group, questions) for group in groups]
    numbers = [number for number in membership.numbers if (cluster == number).any()]
    return names, [_row(number, membership.names[number], cluster, hits, len(numbers)) for number in numbers], ""


def _row(number: int, name: str, cluster: np.ndarray, hits: Sequence[np.ndarray], count: int) -> ClusterRow:
    inside = [one[:, cluster == number] for one in hits]
    apart = compare_hits(*inside, comparisons=count) if len(inside) == 2 else None
    return ClusterRow(number, name, inside[0].shape[1], tuple(float(one.mean()) for one in inside), apart)
