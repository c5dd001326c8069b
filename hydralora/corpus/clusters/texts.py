"""The texts of a corpus as Arrow holds them, and which of them are distinct."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hydralora.corpus.clusters.words import MAX_CHARACTERS_READ
from hydralora.corpus.folder import Corpus
from hydralora.threads import in_order

PART_TEXTS = 8_000
Made = TypeVar("Made")


@dataclass(frozen=True)
class Texts:
    """The distinct texts of a corpus: ``first`` holds the example each stands in first, ``(distinct,)``, ``which``
    the distinct text of every example, ``(examples,)``."""

    corpus: Corpus
    first: np.ndarray
    which: np.ndarray

    @classmethod
    def of(cls, corpus: Corpus) -> Texts:
        """Texts are equal when what is read of them is: a 64-bit hash of prompt and answer."""
        # The hash of this process: only equality is asked of it, so nothing that is kept depends on its salt.
        hashes = (hash(text) for texts in _batches(corpus) for text in texts.to_pylist())
        names = np.fromiter(hashes, np.int64, len(corpus))
        _, first, which = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return cls(corpus, first[order], np.argsort(order)[which])

    def take(self, distinct: np.ndarray) -> pa.Array:
        """Some of the distinct texts, given as sorted places."""
        parts = list(self._parts(self.first[distinct]))
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    def each(self, make: Callable[[pa.Array], Made]) -> Iterator[Made]:
        """What ``make`` makes of all distinct texts, a part at a time and in order, on two threads."""
        yield from in_order(make, self._parts(self.first))

    def _parts(self, examples: np.ndarray) -> Iterator[pa.Array]:
        """These examples, at least ``PART_TEXTS`` at a time: every part looks up all words anew."""
        begin, waiting, held = 0, list[pa.Array](), 0
        for texts in _batches(self.corpus):
            low, high = np.searchsorted(examples, (begin, begin + len(texts)))
            waiting.append(texts.take(pa.array(examples[low:high] - begin)))
            begin, held = begin + len(texts), held + high - low
            if held >= PART_TEXTS:
                yield pa.concat_arrays(waiting)
                waiting, held = [], 0
        if held:
            yield pa.concat_arrays(waiting)


def _batches(corpus: Corpus) -> Iterator[pa.Array]:
    """Prompt and answer as one text, for every example."""
    for batch in corpus.scan("prompt", "answer"):
        prompt, answer = (pc.utf8_slice_codeunits(column, 0, MAX_CHARACTERS_READ) for column in batch.columns)
        yield pc.utf8_slice_codeunits(pc.binary_join_element_wise(prompt, answer, "\n"), 0, MAX_CHARACTERS_READ)
