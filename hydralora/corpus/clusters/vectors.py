"""Texts as points: TF-IDF without template text, reduced by a singular value decomposition (LSA).

Fitted on a sample, then applied to any number of rows in chunks: a row costs its words, and nothing of the corpus
is held but the points. Small words of any language need no list: a term weighs ``f(count)`` times
``log((1 + texts) / (1 + texts with it))``, nothing where it stands in every text. Texts are grouped with the ``f`` of
BM25 (Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019, section 3.5), which a long text does not fill by
one word; numbers of clusters are tried with ``1 + log(count)``, on which the rule for them was chosen. What else was
tried: ``docs/clusters.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from hydralora.corpus.clusters.templates import Templates, find_templates, presence
from hydralora.corpus.clusters.weights import counted
from hydralora.corpus.clusters.words import Tokens, Vocabulary, split_words
from hydralora.errors import CorpusError

MAX_TERMS = 20_000
DIMENSIONS = 50
MAX_DIMENSIONS = 100  # where many clusters are asked for
SHORT = 25  # terms a text, on average, below which pieces of words count too: short texts share few words
PIECES = 0.3  # weight of the pieces beside the words
TEMPLATE_TEXTS = 4_000  # texts that template text is looked for in
RARE_FROM = 50  # texts from which a term must stand in two of them


@dataclass(frozen=True)
class Space:
    """How texts become points: terms with their weights, and the directions ``(terms, dimensions)``.

    A term is a word (``singles``: the numbers of words) or two neighbouring characters of a script without spaces
    (``pairs``: sorted names of runs of two). ``length`` is how many terms a text of the sample has on average; None
    where the counts of terms are weighed by their logarithm, without a look at lengths.
    """

    vocabulary: Vocabulary
    templates: Templates
    unspaced: np.ndarray
    singles: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    directions: np.ndarray
    length: float | None

    def rows(self, texts: pa.Array) -> csr_matrix:
        """TF-IDF rows of unit length, ``(texts, terms)``."""
        tokens = self.vocabulary.number(texts)
        return self._weighted(tokens.without(self.templates.mask(tokens)))

    def points(self, rows: csr_matrix) -> np.ndarray:
        """Points of unit length, ``(texts, dimensions)``; the origin for texts without a term."""
        return np.asarray(normalize(rows @ self.directions), dtype=np.float32)

    def terms(self) -> list[str]:
        """The terms as text, in the order of the columns."""
        words = self.vocabulary.words
        known = max(len(self.vocabulary), 1)
        first, second = (words.take(pa.array(ids)).to_pylist() for ids in divmod(self.pairs, known))
        return [*words.take(pa.array(self.singles)).to_pylist(), *map("".join, zip(first, second, strict=True))]

    def _weighted(self, tokens: Tokens) -> csr_matrix:
        counts = count_terms(tokens, self.unspaced, self.singles, self.pairs)
        lengths = np.repeat(np.asarray(counts.sum(1)).ravel(), np.diff(counts.indptr))
        counts.data = counted(counts.data, lengths, self.length)
        counts.data *= self.weights[counts.indices]
        return normalize(counts, copy=False)


def count_terms(tokens: Tokens, unspaced: np.ndarray, singles: np.ndarray, pairs: np.ndarray) -> csr_matrix:
    """How often each of these terms stands in every text, ``(texts, terms)``."""
    column = np.full(tokens.known + 1, -1, dtype=np.int64)  # the last is for words without a number
    column[singles] = np.arange(len(singles))
    doc, ids = tokens.doc, column[tokens.ids]
    if len(pairs):
        places, names = _pairs(tokens, unspaced)
        found = np.minimum(np.searchsorted(pairs, names), len(pairs) - 1)
        more = np.where(pairs[found] == names, found + len(singles), -1)
        doc, ids = np.concatenate([doc, tokens.doc[places]]), np.concatenate([ids, more])
    known = ids >= 0
    return presence(doc[known], ids[known], tokens.texts, len(singles) + len(pairs))


def _pairs(tokens: Tokens, unspaced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and names of two neighbouring characters of a script without spaces."""
    places, names = tokens.runs(2)
    both = unspaced[tokens.ids[places]] & unspaced[tokens.ids[places + 1]]
    return places[both], names[both]


class Fitted(NamedTuple):
    """What a sample of distinct texts teaches: the space that texts are grouped in, the rows ``(sample, terms)`` of the
    sample there, and the space in which numbers of clusters are tried."""

    space: Space
    rows: csr_matrix
    choosing: Space


def fit_spaces(texts: pa.Array, seed: int, dimensions: int = DIMENSIONS) -> Fitted:
    """Learn terms, template text and directions from a sample of distinct texts.

    Raises:
        CorpusError: When there is no word in any text.
    """
    doc, words = split_words(texts)
    vocabulary = Vocabulary(words)
    if not len(vocabulary):
        raise CorpusError("The examples hold no words to compare. Check the corpus.")
    tokens = vocabulary.tokens(doc, words, len(texts))
    templates = find_templates(_first_texts(tokens), seed)
    tokens = tokens.without(templates.mask(tokens))
    space = _fit_terms(vocabulary, templates, tokens)
    rows, choosing = space._weighted(tokens), replace(space, length=None)
    return Fitted(
        _with_directions(space, rows, seed, dimensions),
        rows,
        _with_directions(choosing, choosing._weighted(tokens), seed, DIMENSIONS),
    )


def _first_texts(tokens: Tokens) -> Tokens:
    texts = min(tokens.texts, TEMPLATE_TEXTS)
    first = tokens.doc < texts
    return Tokens(tokens.doc[first], tokens.ids[first], texts, tokens.known)


def _fit_terms(vocabulary: Vocabulary, templates: Templates, tokens: Tokens) -> Space:
    """The terms that tell texts apart; where none does, every word counts alike."""
    unspaced = vocabulary.unspaced()
    pairs = np.unique(_pairs(tokens, unspaced)[1]) if unspaced.any() else np.zeros(0, dtype=np.int64)
    singles = np.arange(len(vocabulary))
    counts = count_terms(tokens, unspaced, singles, pairs)
    texts_with, total = np.bincount(counts.indices, minlength=counts.shape[1]), np.asarray(counts.sum(0)).ravel()
    telling = np.log((1 + tokens.texts) / (1 + texts_with))
    least = 2 if tokens.texts >= RARE_FROM else 1
    usable = np.flatnonzero((texts_with >= least) & (telling > 0))
    if not len(usable):
        usable = np.flatnonzero(texts_with)
        telling = np.ones_like(telling)
    usable = np.sort(usable[np.argsort(-total[usable], kind="stable")[:MAX_TERMS]])
    is_pair = usable >= len(singles)
    return Space(
        vocabulary,
        templates,
        unspaced,
        usable[~is_pair],
        pairs[usable[is_pair] - len(singles)],
        telling[usable].astype(np.float32),
        np.zeros((0, 0), dtype=np.float32),
        float(total[usable].sum() / tokens.texts),
    )


def _with_directions(space: Space, rows: csr_matrix, seed: int, dimensions: int) -> Space:
    dimensions = min(dimensions, rows.shape[1] - 1, rows.shape[0] - 1)
    if dimensions < 2:
        return replace(space, directions=np.eye(rows.shape[1], min(rows.shape[1], 2), dtype=np.float32))
    parts = _characters(space.terms()) if rows.nnz < SHORT * rows.shape[0] else None
    wide = rows if parts is None else hstack([rows, rows @ parts]).tocsr()
    svd = TruncatedSVD(dimensions, n_iter=3, random_state=seed).fit(wide)
    directions = svd.components_[:, : rows.shape[1]].T
    if parts is not None:
        directions = directions + parts @ svd.components_[:, rows.shape[1] :].T
    return replace(space, directions=np.ascontiguousarray(directions, dtype=np.float32))


def _characters(terms: list[str]) -> csr_matrix | None:
    """What every term holds of three and four characters in a row, ``(terms, pieces)``; None without any.

    A text's pieces are those of its words, so that they cost nothing once the directions are known.
    """
    try:
        pieces = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=2, dtype=np.float32)
        return normalize(pieces.fit_transform(terms)) * PIECES
    except ValueError:  # no two terms share a piece
        return None
