"""Why a row lies in its cluster: the terms of it that pull it to its centre, and to the next one.

A row's TF-IDF vector ``x`` lies at ``x V`` (LSA), so its product with a centre is a sum over its terms,
``sum_t x_t (V c)_t``: each addend is what one term says for that cluster. ``V c`` is kept for every term.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hydralora.corpus.clusters.words import split_words
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.results.clusters import ASSIGNMENTS

if TYPE_CHECKING:
    from hydralora.corpus.clusters.vectors import Space

TERMS = "terms.parquet"  # beside the assignments
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

    ``terms`` come in the order of what they say for the row's own cluster rather than for the next.
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
    says = (space.directions @ centres.T).astype(np.float32)
    columns = {"term": space.terms(), "weight": space.weights}
    pq.write_table(pa.table(columns | {str(i): says[:, i] for i in range(len(centres))}), folder / TERMS)


def explain_row(corpus_folder: Path, clusters_folder: Path, example: int) -> Why:
    """Why an example lies in its cluster.

    Raises:
        CorpusError: When there is no such example, or the clustering keeps no terms.
    """
    text = Corpus(corpus_folder).take([example])[0].text()
    if not (clusters_folder / TERMS).exists():
        raise CorpusError(
            "This clustering keeps no terms: it was made of sentence embeddings, or by an earlier version. Cluster the "
            "corpus again with k-means."
        )
    place = pq.read_table(clusters_folder / ASSIGNMENTS).slice(example, 1).to_pylist()[0]
    names, says = _terms_of(text, pq.read_table(clusters_folder / TERMS))
    order = np.argsort(-says.sum(0), kind="stable")
    others = [int(cluster) for cluster in order if cluster != place["cluster"]]
    own = says[:, place["cluster"]]
    other = says[:, others[0]] if others else np.zeros(len(says))
    best = np.argsort(other - own, kind="stable")[:MOST_TERMS]
    terms = [Term(names[i], float(own[i]), float(other[i])) for i in best]
    where = (place["cluster"], others[0] if others else None, place["distance"], place["margin"])
    return Why(example, *where, place["noise"], terms)


def _terms_of(text: str, table: pa.Table) -> tuple[list[str], np.ndarray]:
    """The terms of a text, and what each says for every cluster, ``(terms, clusters)``."""
    words = split_words(pa.array([text]))[1].to_pylist()
    pairs = [first + second for first, second in pairwise(words) if len(first) == len(second) == 1]
    counts = Counter([*words, *pairs])
    column = table["term"].to_pylist()
    places = [place for place, term in enumerate(column) if term in counts]
    kept = table.take(pa.array(places, pa.int64()))
    weight = kept["weight"].to_numpy() * (1 + np.log([counts[column[place]] for place in places]))
    says = np.stack([kept[name].to_numpy() for name in table.column_names[2:]], axis=1)
    return [column[place] for place in places], says * (weight / max(np.linalg.norm(weight), 1e-12))[:, None]
