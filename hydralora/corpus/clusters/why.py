"""Why a row lies in its cluster: the terms of it that pull it to its centre, and to the next one.

A row's TF-IDF vector ``x`` lies at ``x V`` (LSA), so its product with a centre is a sum over its terms,
``sum_t x_t (V c)_t``: each addend is what one term says for that cluster. ``V c`` is kept for every term.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hydralora.corpus.clusters.weights import counted
from hydralora.corpus.clusters.words import split_words
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.results.clusters import ASSIGNMENTS

if TYPE_CHECKING:
    from hydralora.corpus.clusters.vectors import Space

TERMS = "terms.parquet"  # beside the assignments
LENGTH = b"length"  # in its metadata, as ``Space.length``; files of earlier versions have none
MOST_TERMS = 12


@dataclass(frozen=True)
class Term:
    """A term of a row: what it says for the row's cluster, and for the next one."""

    term: str
    own: float
    other: float


@dataclass(frozen=True)
class Why:
    """Where a row lies and what puts it there; ``other`` is None where there is one cluster.

    ``margin`` is NaN where it is not known, as for a row whose next cluster was merged into its own. ``terms`` come in
    the order of what they say for the row's own cluster rather than for the next.
    """

    example: int
    cluster: int
    other: int | None
    distance: float
    margin: float
    is_noise: bool
    terms: list[Term]


def write_terms(folder: Path, space: Space, centres: np.ndarray) -> None:
    """Keep every term with its weight and what it says for every cluster, ``(terms, clusters)``."""
    import pyarrow.parquet as pq

    says = (space.directions @ centres.T).astype(np.float32)
    columns = {"term": space.terms(), "weight": space.weights}
    table = pa.table(columns | {str(i): says[:, i] for i in range(len(centres))})
    told = {} if space.length is None else {LENGTH: repr(space.length).encode()}
    pq.write_table(table.replace_schema_metadata(told), folder / TERMS)


def explain_row(corpus_folder: Path, clusters_folder: Path, example: int) -> Why:
    """Why an example lies in its cluster.

    Raises:
        CorpusError: When there is no such example, or the clustering keeps no terms.
    """
    return explain_rows(corpus_folder, clusters_folder, [example])[0]


def explain_rows(corpus_folder: Path, clusters_folder: Path, examples: Sequence[int]) -> list[Why]:
    """Why each of some examples lies in its cluster; ``clusters_folder`` is that of a clustering or of a grouping.

    Raises:
        CorpusError: When there is no such example, or the clustering keeps no terms.
    """
    import pyarrow.parquet as pq

    texts = [example.text() for example in Corpus(corpus_folder).take(examples)]
    if not (clusters_folder / TERMS).exists():
        raise CorpusError(
            "This clustering keeps no terms: it was made of sentence embeddings, or by an earlier version. Cluster the "
            "corpus again with k-means."
        )
    places = pq.read_table(clusters_folder / ASSIGNMENTS).take(pa.array(list(examples), pa.int64())).to_pylist()
    terms = pq.read_table(clusters_folder / TERMS)
    column = terms["term"].to_pylist()
    found = zip(examples, texts, places, strict=True)
    return [_explain(example, place, *_terms_of(text, terms, column)) for example, text, place in found]


def _explain(example: int, place: dict[str, Any], terms: list[str], says: dict[int, np.ndarray]) -> Why:
    """One row, of what its terms ``(terms,)`` say for each cluster."""
    cluster = int(place["cluster"])
    order = sorted(says, key=lambda number: -float(says[number].sum()))
    other = next((number for number in order if number != cluster), None)
    own, beside = says[cluster], np.zeros(len(terms)) if other is None else says[other]
    best = np.argsort(beside - own, kind="stable")[:MOST_TERMS]
    shown = [Term(terms[i], float(own[i]), float(beside[i])) for i in best]
    return Why(example, cluster, other, place["distance"], place["margin"], place["noise"], shown)


def _terms_of(text: str, table: pa.Table, column: list[str]) -> tuple[list[str], dict[int, np.ndarray]]:
    """The terms of a text, and what each says for every cluster by its number, ``(terms,)``."""
    words = split_words(pa.array([text]))[1].to_pylist()
    pairs = [first + second for first, second in pairwise(words) if len(first) == len(second) == 1]
    counts = Counter([*words, *pairs])
    places = [place for place, term in enumerate(column) if term in counts]
    kept = table.take(pa.array(places, pa.int64()))
    own, usual = np.array([counts[column[place]] for place in places]), (table.schema.metadata or {}).get(LENGTH)
    weight = kept["weight"].to_numpy() * counted(own, float(own.sum()), None if usual is None else float(usual))
    weight = weight / max(np.linalg.norm(weight), 1e-12)
    return [column[place] for place in places], {
        int(name): kept[name].to_numpy() * weight for name in table.column_names[2:]
    }
