"""What a finished clustering says about the number of experts, and what was edited, in the same words on pages and in
commands."""

from __future__ import annotations

import math

from hydralora.bounds import MOST_EXPERTS
from hydralora.corpus.clusters.options import METHODS
from hydralora.corpus.clusters.why import Why
from hydralora.errors import UserError
from hydralora.plain import shown
from hydralora.results import Clusters, cluster_name
from jobs.store.records import Clustering, Edit

BORDERLINE = 0.1  # of a distance between points of unit length
TOLD_EDITS = 4  # that the reason of a number names


def experts_title(clustering: Clustering) -> str:
    """How many experts a finished clustering speaks for, and whether it was chosen or suggested."""
    is_chosen = clustering.chosen_k or clustering.is_edited
    return f"{'chosen' if is_chosen else 'suggested'} number of experts: {clustering.experts}"


def experts_reason(clustering: Clustering) -> str:
    """The reason of that number, in sentences: a choice is named with the suggestion beside it."""
    found = clustering.result
    if found is None:
        return ""
    reason = found.reason
    if clustering.is_edited:
        reason = f"{edits_reason(clustering)} The measures suggest {found.suggested_k}: {reason}"
    elif clustering.chosen_k:
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


def edits_reason(clustering: Clustering) -> str:
    """Why an edited clustering speaks for its number of experts: what you did, and what it comes to."""
    found = clustering.clusters
    made = [edit for edit in reversed(clustering.edits) if edit.is_active and not edit.is_pending]
    did = [_lower(edit_sentence(edit)) for edit in made if edit.action in ("merge", "split")]
    more = [f"made {len(did) - TOLD_EDITS} more edits"] if len(did) > TOLD_EDITS else []
    if clustering.left_out:
        more.append(f"left {in_words([found.title(number) for number in clustering.left_out])} out")
    count = found.k - len(clustering.left_out)
    limit = f" More than {MOST_EXPERTS} experts cannot be trained." if count > MOST_EXPERTS else ""
    kept = "1 cluster" if count == 1 else f"{count} clusters"
    return f"You {in_words([*did[:TOLD_EDITS], *more])}: {kept}.{limit}"


def edit_sentence(edit: Edit) -> str:
    """What an edit did, or does, to which clusters, as they were called then; without its end."""
    details = edit.details
    match edit.action:
        case "rename" if details["name"]:
            return f"Renamed {details['before']} to “{details['name']}”"
        case "rename":
            return f"Took the name of {details['before']} back"
        case "merge":
            return f"Merged {in_words(details['titles'])} into {cluster_name(details['kept'])}"
        case "split":
            parts = len(details["parts"]) if "parts" in details else details["k"]
            return f"Split {details['title']}" + (f" into {parts}" if parts else "")
    return f"Left {details['title']} out ({details['rows']:,} rows)"


def edit_state(edit: Edit) -> str:
    """Whether an edit stands."""
    if edit.has_failed:
        return "failed"
    if edit.undone_at is not None:
        return "taken back"
    return "under way" if edit.is_pending else "stands"


def edit_author(edit: Edit) -> str:
    """Where an edit came from; there are no accounts."""
    return "page" if edit.visitor else "command"


def in_words(names: list[str]) -> str:
    """``C1, C3 and C4``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def find_cluster(found: Clusters, text: str) -> int:
    """The number of the cluster that a person calls ``C2``, ``2``, or by the name that somebody gave it.

    Raises:
        UserError: When there is none.
    """
    wanted = text.strip().casefold()
    for number in found.all_numbers:
        if wanted in (cluster_name(number).casefold(), str(number + 1), found.given_name(number).casefold() or None):
            return number
    present = in_words([found.title(number) for number in found.all_numbers[:40]])
    raise UserError(f"There is no cluster called {shown(text)}. Choose from: {present}.")


def why_sentence(found: Why) -> str:
    """Where an example lies, and how clearly."""
    here = f"Example {found.example} lies in {cluster_name(found.cluster)}"
    if found.is_noise:
        return f"{here}, the nearest to it: the method calls it noise."
    if found.other is None:
        return f"{here}, the only cluster."
    if math.isnan(found.margin):  # two clusters that it lay between were merged
        return f"{here}; {cluster_name(found.other)} comes next. Its words, and what they say:"
    nearness = "nearly as close" if found.margin < BORDERLINE else "further away"
    return f"{here}; {cluster_name(found.other)} is {nearness} (by {found.margin:.2f}). Its words, and what they say:"
