"""Template text: what the same few phrasings wrap around the rows of a corpus, whatever the rows are about.

A run of three words that stands in many texts is template text when the rest of those texts does not depend on it:
a prompt template drawn by lot says nothing about its row, the instruction of one task says much. So the rest is
measured: on one half of the texts the mean difference between those with the run and those without gives a
direction, on the other half the correlation along it says whether the run can be foretold from the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from hydralora.corpus.clusters.words import Tokens

RUN = 3  # words
SHARED_BY = 0.05  # share of the texts in which a run must stand
MOST_RUNS = 4_000
MOSTLY_HERE = 0.5  # share of the texts with a run's rarest word that hold the run: a filling has many neighbours
SAME_TEXTS = 0.7  # Jaccard index of a word's texts and a run's, from which the word counts as a part of the run
FORETOLD = 0.15  # correlation from which the rest of a text depends on a run; 2.5 standard errors where that is more
DIMENSIONS = 20
LEAST_TEXTS = 20


@dataclass(frozen=True)
class Templates:
    """Runs of words that are template text, sorted, and single words that belong to one of them.

    ``owners`` gives the place in ``runs`` of the run that a word of ``words`` belongs to.
    """

    runs: np.ndarray
    words: np.ndarray
    owners: np.ndarray

    def mask(self, tokens: Tokens) -> np.ndarray:
        """Which words are template text, ``(words,)``."""
        dropped = np.zeros(len(tokens.ids), dtype=bool)
        if not len(self.runs):
            return dropped
        places, names = tokens.runs(RUN)
        found = np.minimum(np.searchsorted(self.runs, names), len(self.runs) - 1)
        is_template = self.runs[found] == names
        places, found = places[is_template], found[is_template]
        for step in range(RUN):
            dropped[places + step] = True
        return dropped | self._owned(tokens, np.unique(tokens.doc[places] * len(self.runs) + found))

    def _owned(self, tokens: Tokens, text_runs: np.ndarray) -> np.ndarray:
        """Words whose run stands in the same text: the short pieces between two fillings."""
        owner = np.full(tokens.known + 1, -1, dtype=np.int64)  # the last is for words without a number
        owner[self.words] = self.owners
        run = owner[tokens.ids]
        return np.asarray((run >= 0) & np.isin(tokens.doc * len(self.runs) + run, text_runs))


NONE = Templates(*(np.zeros(0, dtype=np.int64),) * 3)


def presence(doc: np.ndarray, ids: np.ndarray, texts: int, width: int) -> csr_matrix:
    """How often every term stands in every text, ``(texts, width)``."""
    counts = csr_matrix((np.ones(len(ids), dtype=np.float32), (doc, ids)), shape=(texts, width))
    counts.sum_duplicates()
    return counts


def find_templates(tokens: Tokens, seed: int) -> Templates:
    """The template text of these texts; none where too little stands beside it to tell."""
    places, names = tokens.runs(RUN)
    runs, which = np.unique(names, return_inverse=True)
    holds = presence(tokens.doc[places], which, tokens.texts, len(runs))
    holds.data[:] = 1
    words_in = _words_in(tokens)
    shared = _shared(np.asarray(holds.sum(0)).ravel(), tokens.texts)
    if not len(shared):
        return NONE
    held = holds[:, shared].toarray()
    words, owners = _parts(words_in, held)
    candidates = Templates(runs[shared], words, owners)
    rest = _coordinates(tokens.without(candidates.mask(tokens)), seed)
    if rest is None:
        return NONE
    is_fixed = _is_fixed(candidates.runs, held.sum(0), np.asarray(words_in.sum(0)).ravel())
    return _kept(candidates, is_fixed & ~_is_foretold(rest, held, seed))


def _words_in(tokens: Tokens) -> csr_matrix:
    """Which words stand in which texts, ``(texts, words)``."""
    known = tokens.ids >= 0
    counts = presence(tokens.doc[known], tokens.ids[known], tokens.texts, tokens.known)
    counts.data[:] = 1
    return counts


def _shared(texts_with: np.ndarray, texts: int) -> np.ndarray:
    """Runs that stand in many texts, as sorted places; the most frequent where they are too many."""
    common = np.flatnonzero(texts_with >= max(SHARED_BY * texts, 2))
    return np.sort(common[np.argsort(-texts_with[common], kind="stable")[:MOST_RUNS]])


def _is_fixed(runs: np.ndarray, texts_with: np.ndarray, word_texts: np.ndarray) -> np.ndarray:
    """Which runs hold no filling: their rarest word seldom stands without them, ``(runs,)``."""
    known = len(word_texts)
    words = [runs // known ** (RUN - 1 - place) % known for place in range(RUN)]
    return np.asarray(texts_with >= MOSTLY_HERE * np.min([word_texts[word] for word in words], axis=0))


def _parts(words_in: csr_matrix, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequent words that stand in nearly the same texts as a run, and that run."""
    total = np.asarray(words_in.sum(0)).ravel()
    frequent = np.flatnonzero(total >= SHARED_BY * words_in.shape[0])
    both = np.asarray(words_in[:, frequent].T @ held)
    jaccard = both / (total[frequent][:, None] + held.sum(0)[None] - both)
    is_part = jaccard.max(1) >= SAME_TEXTS
    return frequent[is_part], jaccard.argmax(1)[is_part]


def _coordinates(rest: Tokens, seed: int) -> np.ndarray | None:
    """TF-IDF coordinates ``(texts, dimensions)`` of what is left; zero rows where nothing is; None where too little."""
    known = rest.ids >= 0
    counts = presence(rest.doc[known], rest.ids[known], rest.texts, rest.known)
    texts_with = np.bincount(counts.indices, minlength=rest.known)
    telling = np.flatnonzero((texts_with >= 2) & (texts_with <= 0.5 * rest.texts))
    counts = counts[:, telling]
    if len(telling) <= 2 or np.count_nonzero(np.diff(counts.indptr)) < LEAST_TEXTS:
        return None
    weight = np.log((1 + rest.texts) / (1 + texts_with[telling])) + 1
    counts.data = 1 + np.log(counts.data)
    weighted = normalize(counts.multiply(weight.astype(np.float32)).tocsr())
    dimensions = min(DIMENSIONS, len(telling) - 1)
    return np.asarray(normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(weighted)))


def _is_foretold(rest: np.ndarray, held: np.ndarray, seed: int) -> np.ndarray:
    """Which runs depend on the rest of their texts, ``(runs,)``."""
    filled = np.flatnonzero(np.abs(rest).sum(1) > 0)
    np.random.default_rng(seed).shuffle(filled)
    halves = (filled[::2], filled[1::2])
    rest = rest - rest[filled].mean(0)
    there = _correlation(rest, held, *halves)
    back = _correlation(rest, held, *halves[::-1])
    limit = max(FORETOLD, 2.5 / np.sqrt(len(filled) / 2))
    return np.asarray((there + back) / 2 >= limit)


def _correlation(rest: np.ndarray, held: np.ndarray, fit: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Correlation on ``test`` of every run with the direction found on ``fit``, ``(runs,)``."""
    has = held[fit]
    direction = has.T @ rest[fit] / np.maximum(has.sum(0), 1)[:, None]
    direction -= (1 - has).T @ rest[fit] / np.maximum((1 - has).sum(0), 1)[:, None]
    score = rest[test] @ direction.T
    score -= score.mean(0)
    has = held[test] - held[test].mean(0)
    return np.asarray((score * has).sum(0) / np.sqrt(np.maximum((score**2).sum(0) * (has**2).sum(0), 1e-12)))


def _kept(templates: Templates, is_template: np.ndarray) -> Templates:
    place = np.cumsum(is_template) - 1
    owned = is_template[templates.owners]
    return Templates(templates.runs[is_template], templates.words[owned], place[templates.owners[owned]])
