"""Edits of clusters: each makes one grouping of another, and what it does not name stays as it is.

A cluster keeps its number whatever is edited, and with it its letter, colour and shape. Merged clusters have the
number of the largest of them (of equals the first), as has the largest part of a cluster that is split; the other
parts get numbers that no cluster has ever had.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hydralora.corpus.clusters.grouping import Grouped
from hydralora.corpus.clusters.labels import compare_labels
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.plain import UNSHOWN, one_line, shown
from hydralora.results import Clusters, cluster_name

LONGEST_NAME = 40  # characters of a cluster's name: it stands in tables and figures
WORDS, SHOWN = 8, 5  # of one cluster, as a clustering keeps them
MOST_NUMBERS = 10_000
LETTERED = re.compile(r"[cC]\d+")
LISTS = ("sizes", "words", "names", "typical", "borderline", "given_names", "paths")  # one entry for each cluster
Item = TypeVar("Item")


@dataclass(frozen=True)
class Parts:
    """A cluster in parts, the largest first.

    Args:
        members: Positions of its examples, ``(members,)``.
        part: Of each, from 0, ``(members,)``.
        distance: Of each to the centre of its part, ``(members,)``.
        margin: How much further the next part's centre is, ``(members,)``.
        other: The next part, ``(members,)``.
        words: Terms that set each part apart from the others.
        typical: Positions of the examples nearest to each centre.
        borderline: Positions of those nearest to another one.
        says: What every term says for each part, ``(terms, parts)``.
    """

    members: np.ndarray
    part: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    other: np.ndarray
    words: list[list[str]]
    typical: list[list[int]]
    borderline: list[list[int]]
    says: np.ndarray


def rename_cluster(before: Grouped, number: int, name: str) -> Grouped:
    """Give a cluster a name; an empty one takes the name back.

    Raises:
        CorpusError: When there is no such cluster, or the name is too long, another cluster's, or like a letter.
    """
    check_numbers(before.result, [number])
    name = checked_name(before.result, number, name)
    given = _list(before.result, "given_names")
    given[before.result.place(number)] = name
    return replace(before, result=before.result.model_copy(update={"given_names": given}))


def checked_name(result: Clusters, number: int, name: str) -> str:
    """A name for a cluster on one line.

    Raises:
        CorpusError: When it is too long, another cluster's, or like the letter of one.
    """
    kept = " ".join(one_line(UNSHOWN.sub(" ", name)).split())
    if len(kept) > LONGEST_NAME:
        raise CorpusError(
            f"A cluster's name has at most {LONGEST_NAME} characters, got {len(kept):,}: {shown(kept, 60)}. Shorten it."
        )
    if LETTERED.fullmatch(kept):
        raise CorpusError(f"{kept!r} is the letter of a cluster. Give it a name in words.")
    for other in result.all_numbers:
        if kept and other != number and result.given_name(other).casefold() == kept.casefold():
            raise CorpusError(f"{cluster_name(other)} is called {kept!r} already. Give it another name, or merge them.")
    return kept


def check_numbers(result: Clusters, numbers: Sequence[int]) -> None:
    """Raise CorpusError where a cluster of these is none."""
    for number in numbers:
        if number not in result.all_numbers:
            present = ", ".join(map(cluster_name, result.all_numbers))
            raise CorpusError(f"There is no cluster {cluster_name(number)}. Choose from: {shown_list(present)}.")


def shown_list(names: str) -> str:
    """A list of names, cut where it is long."""
    return names if len(names) <= 200 else names[:200] + " …"


def merge_clusters(before: Grouped, numbers: Sequence[int], corpus_folder: Path) -> Grouped:
    """Make one cluster of several.

    Raises:
        CorpusError: When these are not two different clusters at least.
    """
    result, chosen = before.result, list(dict.fromkeys(numbers))
    check_numbers(result, chosen)
    if len(chosen) < 2:
        raise CorpusError(f"Merging takes two clusters at least, got {len(chosen)}. Choose another one too.")
    by_size = sorted(chosen, key=lambda number: (-result.sizes[result.place(number)], number))
    kept = by_size[0]
    cluster = np.where(np.isin(before.cluster, chosen), kept, before.cluster).astype(np.int16)
    is_inside = np.isin(before.cluster, chosen) & np.isin(before.other, [*chosen, -1])
    other = np.where(np.isin(before.other, chosen), kept, before.other).astype(np.int16)
    merged = replace(
        before,
        cluster=cluster,
        margin=np.where(is_inside, np.nan, before.margin).astype(np.float32),
        other=np.where(is_inside, -1, other).astype(np.int16),
        terms=before.terms and _merged_terms(before, by_size),
    )
    lists = _merged_lists(before, merged, by_size)
    return _told(merged, lists, [number for number in result.all_numbers if number not in by_size[1:]], corpus_folder)


def _merged_lists(before: Grouped, merged: Grouped, by_size: list[int]) -> dict[str, list[Any]]:
    """What is told of each cluster after a merge; ``by_size`` are those merged, the largest first."""
    result, places = before.result, [before.result.place(number) for number in by_size]
    lists = {name: _list(result, name) for name in LISTS}
    home = places[0]
    lists["sizes"][home] = sum(result.sizes[place] for place in places)
    lists["words"][home] = _in_turn([result.words[place] for place in places])[:WORDS]
    lists["names"][home] = ", ".join(lists["words"][home][:3])
    lists["typical"][home] = _in_turn([result.typical[place] for place in places])[:SHOWN]
    edge = _in_turn([lists["borderline"][place] for place in places])
    lists["borderline"][home] = [row for row in edge if merged.other[row] >= 0][:SHOWN]
    gone = set(places[1:])
    return {name: [item for place, item in enumerate(values) if place not in gone] for name, values in lists.items()}


def _merged_terms(before: Grouped, by_size: list[int]) -> pa.Table:
    """A term says for merged clusters the mean of what it says for each, by size: their centre is that mean."""
    assert before.terms is not None
    sizes = np.array([before.result.sizes[before.result.place(number)] for number in by_size], dtype=float)
    says = np.stack([before.terms[str(number)].to_numpy() for number in by_size], axis=1)  # (terms, merged)
    table = before.terms.drop_columns([str(number) for number in by_size])
    mean = (says @ (sizes / max(sizes.sum(), 1.0))).astype(np.float32)
    return _in_order(table.append_column(str(by_size[0]), pa.array(mean)))


def divide_cluster(before: Grouped, number: int, parts: Parts, corpus_folder: Path) -> Grouped:
    """Make several clusters of one.

    Raises:
        CorpusError: When there is no such cluster, or clusters have had too many numbers.
    """
    result, count = before.result, len(parts.words)
    check_numbers(result, [number])
    fresh = result.next_number
    if fresh + count - 1 > MOST_NUMBERS:
        raise CorpusError(f"Clusters have had {fresh:,} numbers, and {MOST_NUMBERS:,} are the most. Cluster it anew.")
    numbers = np.array([number, *range(fresh, fresh + count - 1)], dtype=np.int16)  # of each part
    columns = {name: getattr(before, name).copy() for name in ("cluster", "distance", "margin", "other")}
    columns["cluster"][parts.members] = numbers[parts.part]
    columns["distance"][parts.members], columns["margin"][parts.members] = parts.distance, parts.margin
    columns["other"][parts.members] = np.where(parts.other >= 0, numbers[parts.other], -1)
    terms = before.terms
    if terms is not None:
        terms = terms.drop_columns([str(number)])
        for place, part in enumerate(numbers):
            terms = terms.append_column(str(part), pa.array(parts.says[:, place].astype(np.float32)))
        terms = _in_order(terms)
    divided = replace(before, terms=terms, **columns)
    lists = _divided_lists(result, number, parts)
    places = [*result.all_numbers, *numbers[1:].tolist()]
    more = {"branches": [*result.branches, result.shown_name(number)], "numbers_used": fresh + count - 1}
    return _told(divided, lists, places, corpus_folder, more)


def _divided_lists(result: Clusters, number: int, parts: Parts) -> dict[str, list[Any]]:
    """What is told of each cluster after a split: the first part in its place, the others at the end."""
    lists = {name: _list(result, name) for name in LISTS}
    home = result.place(number)
    path = [*lists["paths"][home], len(result.branches)]
    count = len(parts.words)
    words = [own or result.words[home] for own in parts.words]
    told: dict[str, list[Any]] = {
        "sizes": np.bincount(parts.part, minlength=count).tolist(),
        "words": words,
        "names": [", ".join(own[:3]) for own in words],
        "typical": parts.typical,
        "borderline": parts.borderline,
        "given_names": [""] * count,
        "paths": [path] * count,
    }
    for name, values in lists.items():
        values[home] = told[name][0]
        values.extend(told[name][1:])
    return lists


def _told(
    grouped: Grouped,
    lists: dict[str, list[Any]],
    numbers: list[int],
    corpus_folder: Path,
    more: dict[str, Any] | None = None,
) -> Grouped:
    """The same with all that is told of it, by number; labels are compared anew."""
    order = np.argsort(numbers, kind="stable")
    told: dict[str, Any] = {name: [values[place] for place in order] for name, values in lists.items()}
    told |= {"numbers": sorted(numbers), "k": len(numbers), "numbers_used": grouped.result.next_number, **(more or {})}
    told |= compare_labels(Corpus(corpus_folder), grouped.cluster, told["numbers"])
    return replace(grouped, result=grouped.result.model_copy(update=told))


def _list(result: Clusters, name: str) -> list[Any]:
    """One of ``LISTS`` with an entry for each cluster, also where an earlier version kept none."""
    empty: dict[str, Any] = {"names": "", "given_names": "", "borderline": [], "paths": []}
    found = list(getattr(result, name))
    if name == "names" and not found:
        return [", ".join(words[:3]) for words in result.words]
    return found or [empty[name]] * result.k


def _in_turn(lists: Sequence[Sequence[Item]]) -> list[Item]:
    """The first of each list, then the second of each, and so on, none twice."""
    missing = object()
    found = chain.from_iterable(zip_longest(*lists, fillvalue=missing))
    return list(dict.fromkeys(item for item in found if item is not missing))  # type: ignore[misc]


def _in_order(terms: pa.Table) -> pa.Table:
    """The columns of the terms by the number of the cluster."""
    first, clusters = terms.column_names[:2], terms.column_names[2:]
    return terms.select([*first, *sorted(clusters, key=int)])
