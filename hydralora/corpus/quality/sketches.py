"""Sketches of texts, by which near copies are found without comparing every pair, and without holding the texts.

A text's sketch is the MinHash of its pieces (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900): two texts have
a value of it in common with the probability of their Jaccard index. Locality-sensitive hashing cuts it into ``BANDS``
bands; texts with an equal band are candidates. What is kept of every text are the names of its bands, 64 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from rensa import RMinHash

PERMUTATIONS, BANDS, SEED = 128, 16, 42
NEAR = 0.8  # Jaccard index from which two texts are near copies
MOST_COMPARED = 50  # candidates of one text
BUDGET = 20_000_000  # candidates of all texts
MOST_CHARACTERS = 4_000  # of one text
LETTERS = 5  # of a piece where a text has hardly a space; else a piece is three words
WORD = re.compile(r"\w+")
MIX = np.random.default_rng(SEED).integers(1, 2**63, PERMUTATIONS // BANDS, np.uint64) * 2 + 1  # odd


def sketch(texts: Sequence[str]) -> np.ndarray:
    """MinHash values of each text, ``(texts, PERMUTATIONS)``."""
    rows = RMinHash.digests_from_token_sets([_pieces(text) for text in texts], PERMUTATIONS, SEED)
    return np.array(rows, np.uint32).reshape(-1, PERMUTATIONS)


def _pieces(text: str) -> list[str]:
    """The set of pieces of a text: three words each, or five characters where it has hardly a space."""
    text = text[:MOST_CHARACTERS].casefold()
    words = WORD.findall(text)
    if len(words) * 12 < len(text):
        text = "".join(words)
        return [text[i : i + LETTERS] for i in range(max(1, len(text) - LETTERS + 1))]
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False))) or [" ".join(words)]


def bands_of(sketches: np.ndarray) -> np.ndarray:
    """A number that names each band of each sketch ``(texts, PERMUTATIONS)``; ``(texts, BANDS)`` of 64 bits."""
    names = np.empty((len(sketches), BANDS), np.uint64)
    for band in range(BANDS):
        names[:, band] = (sketches[:, band * len(MIX) : (band + 1) * len(MIX)] * MIX).sum(1, dtype=np.uint64)
    return names


def short_names(bands: np.ndarray) -> np.ndarray:
    """The upper half of the names of bands: equal for equal bands, and for one in four thousand million others."""
    return (bands >> np.uint64(32)).astype(np.uint32)


def candidates_among(bands: np.ndarray) -> np.ndarray:
    """Which texts have a band in common with another one, ``(texts,)``, by names of bands ``(texts, BANDS)``."""
    found = np.zeros(len(bands), bool)
    for names in bands.T:
        ordered = np.sort(names)
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(repeated):
            places = np.minimum(np.searchsorted(repeated, names), len(repeated) - 1)
            found |= repeated[places] == names
    return found


class Index:
    """Which texts that were put in may be near copies of another one.

    Args:
        sketches: Of all texts that are going to be looked at, ``(texts, PERMUTATIONS)``.
    """

    def __init__(self, sketches: np.ndarray) -> None:
        self.left = BUDGET
        self._sketches = sketches
        self._buckets: dict[int, list[int]] = {}
        self._names = self._numbered(bands_of(sketches))

    @staticmethod
    def _numbered(bands: np.ndarray) -> np.ndarray:
        """A number for each band that several texts have in common, -1 for any other, ``(texts, BANDS)``."""
        numbers, begin = np.empty(bands.shape, np.int64), 0
        for band, names in enumerate(bands.T):
            _, which, counts = np.unique(names, return_inverse=True, return_counts=True)
            numbers[:, band] = np.where(counts[which] > 1, which + begin, -1)
            begin += len(counts)
        return numbers

    def insert(self, place: int) -> None:
        """Put a text in."""
        for name in self._bands(place):
            self._buckets.setdefault(name, []).append(place)

    def near(self, place: int) -> int:
        """The first of the texts that were put in which this one is nearly a copy of, -1 where there is none.

        At most ``MOST_COMPARED`` candidates are compared, and ``BUDGET`` are looked at in all: texts beyond that are
        taken for no copies.
        """
        if self.left <= 0:
            return -1
        others = list(dict.fromkeys(chain.from_iterable(self._buckets.get(name, ()) for name in self._bands(place))))
        self.left -= len(others)
        others = others[:MOST_COMPARED]
        is_near = (self._sketches[others] == self._sketches[place]).mean(1) >= NEAR
        return others[int(is_near.argmax())] if is_near.any() else -1

    def _bands(self, place: int) -> Iterator[int]:
        return (name for name in self._names[place].tolist() if name >= 0)


def nearest(sketches: np.ndarray) -> np.ndarray:
    """For each text an earlier one that it is nearly a copy of, -1 where there is none; ``(texts,)``.

    A copy is not put in, so thousands made from one template are compared with one of them.
    """
    index, found = Index(sketches), np.full(len(sketches), -1, np.int64)
    for place in range(len(sketches)):
        found[place] = index.near(place)
        if found[place] < 0:
            index.insert(place)
    return found


def near_ones_of(sketches: np.ndarray, is_held_out: np.ndarray) -> np.ndarray:
    """Places of texts to train on that are nearly a copy of one that is held out."""
    index = Index(sketches)
    for place in np.flatnonzero(is_held_out):
        index.insert(int(place))
    return np.array([place for place in np.flatnonzero(~is_held_out) if index.near(int(place)) >= 0], np.int64)
