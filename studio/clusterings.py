"""What a finished clustering says about the number of experts, in the same words on pages and in commands."""

from __future__ import annotations

from hydralora.bounds import MOST_EXPERTS
from hydralora.corpus.clusters.options import METHODS
from hydralora.corpus.clusters.why import Why
from hydralora.results import Clusters, cluster_name
from jobs.store.records import Clustering

BORDERLINE = 0.1  # of a distance between points of unit length


def experts_title(clustering: Clustering) -> str:
    """How many experts a finished clustering speaks for, and whether it was chosen or suggested."""
    return f"{'chosen' if clustering.chosen_k else 'suggested'} number of experts: {clustering.experts}"


def experts_reason(clustering: Clustering) -> str:
    """The reason of that number, in sentences: a choice is named with the suggestion beside it."""
    found = clustering.result
    if found is None:
        return ""
    reason = found.reason
    if clustering.chosen_k:
        limit = f" More than {MOST_EXPERTS} experts cannot be trained." if clustering.chosen_k > MOST_EXPERTS else ""
        reason = f"You clustered it into {clustering.chosen_k}.{limit} {_beside(clustering.chosen_k, found)}: {reason}"
    return " ".join(filter(None, [reason, elbow_sentence(found), noise_sentence(found)]))


def _beside(chosen: int, found: Clusters) -> str:
    """What the measures say of a chosen number."""
    if not found.is_clear:
        inside = "within" if found.low_k <= chosen <= found.high_k else "outside"
        return f"That is {inside} the range of the measures"
    return (
        "The measures suggest the same" if chosen == found.suggested_k else f"The measures suggest {found.suggested_k}"
    )


def elbow_sentence(found: Clusters) -> str:
    """What the paper's own rule says, over its 15 trials."""
    if not found.elbow_trials:
        return ""
    least, most = found.elbow_trials[0], found.elbow_trials[-1]
    spread = f"is at {least}" if least == most else f"lies between {least} and {most}"
    return f"The elbow of the paper {spread} in {len(found.elbow_trials)} trials."


def noise_sentence(found: Clusters) -> str:
    """How many examples belong to no cluster, where the method says so."""
    if not found.noise:
        return ""
    rows = "1 example is" if found.noise == 1 else f"{found.noise:,} examples are"
    return f"{rows} noise to {METHODS[found.method].title} and counted with the nearest cluster."


def why_sentence(found: Why) -> str:
    """Where an example lies, and how clearly."""
    here = f"Example {found.example} lies in {cluster_name(found.cluster)}"
    if found.is_noise:
        return f"{here}, the nearest to it: the method calls it noise."
    if found.other is None:
        return f"{here}, the only cluster."
    nearness = "nearly as close" if found.margin < BORDERLINE else "further away"
    return f"{here}; {cluster_name(found.other)} is {nearness} (by {found.margin:.2f}). Its words, and what they say:"
