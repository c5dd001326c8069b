"""The language of every text of a corpus, by the model of py3langid, a batch at a time.

py3langid (https://github.com/adbar/py3langid, after Lui and Baldwin 2012, https://aclanthology.org/P12-3005) walks an
automaton over the bytes of one text in Python, some 300 microseconds a text. Here the same automaton walks over all
texts of a batch at once, some ten times as fast, and comes to the same languages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from scipy.sparse import csr_matrix

from hydralora.results.quality import UNTOLD

CHARACTERS = 400  # of each text, from its beginning
TOLD_FROM = 20  # characters that tell a language
MOST_TOLD = 2_000_000  # texts of one corpus: about a minute


class Teller:
    """Tells languages: ``names`` are their ISO 639-1 codes, in the order of the numbers that ``tell`` gives."""

    def __init__(self) -> None:
        model = LanguageIdentifier.from_model_file(MODEL_FILE)
        self.names: list[str] = list(model.nb_classes)
        self._rows = np.asarray(model.tk_row, np.int64) << 8  # of a state in the table of moves
        self._moves = np.asarray(model.tk_nextmove)
        self._feature = np.asarray(model.tk_output, np.int32)  # that a state stands for, -1 for none
        self._weights = np.asarray(model.nb_ptc, np.float32)  # (features, languages)
        self._prior = np.asarray(model.nb_pc, np.float32)
        self._aliases = [(self.names.index(name), i) for i, name in enumerate(self.names)]

    def tell(self, texts: Sequence[str]) -> np.ndarray:
        """The number of each text's language, ``(texts,)``; ``UNTOLD`` for fewer than ``TOLD_FROM`` characters, and
        where nothing of it is known to the model.

        The log-probability of a language is ``sum_f log(1 + count_f) w_f + prior`` over the features of the text.
        """
        found = np.full(len(texts), UNTOLD, np.int16)
        long = [place for place, text in enumerate(texts) if len(text) >= TOLD_FROM]
        if long:
            counts = self._count([_bytes_of(texts[place][:CHARACTERS]) for place in long])
            scores = counts @ self._weights + self._prior
            for first, alias in self._aliases:  # two scripts of one language
                scores[:, first] = np.maximum(scores[:, first], scores[:, alias])
            found[long] = np.where(np.diff(counts.indptr) > 0, scores.argmax(1), UNTOLD)
        return found

    def _count(self, texts: list[bytes]) -> csr_matrix:
        """``log(1 + count)`` of every feature in every text, ``(texts, features)``."""
        count, width = len(texts), len(self._weights)
        place, feature = self._walk(texts)
        pairs, counts = np.unique(place * width + feature, return_counts=True)
        rows = np.searchsorted(pairs, np.arange(count + 1, dtype=np.int64) * width)
        return csr_matrix((np.log1p(counts.astype(np.float32)), pairs % width, rows), shape=(count, width))

    def _walk(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Text and feature of every state that the automaton goes through and that stands for one, ``(found,)`` each.

        All texts take a step at a time, the longest first, so that those which go on stand together.
        """
        lengths = np.array([len(text) for text in texts])
        order = np.argsort(-lengths, kind="stable")
        going_on = np.searchsorted(-lengths[order], -np.arange(lengths.max()), side="left")  # texts with a byte there
        letters = np.zeros((lengths.max(), len(texts)), np.uint8)
        for column, place in enumerate(order):
            letters[: lengths[place], column] = np.frombuffer(texts[place], np.uint8)
        state = np.zeros(len(texts), np.int64)
        features = np.full(letters.shape, -1, np.int32)
        for step, active in enumerate(going_on):
            state[:active] = self._moves[self._rows[state[:active]] + letters[step, :active]]
            features[step, :active] = self._feature[state[:active]]
        steps, columns = np.nonzero(features >= 0)
        return order[columns], features[steps, columns].astype(np.int64)


def _bytes_of(text: str) -> bytes:
    """A text as py3langid reads it."""
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode("utf-8", errors="surrogatepass")
