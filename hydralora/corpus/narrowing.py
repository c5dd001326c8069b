"""Which examples of a corpus meet one part of a ``Query``; every answer is a mask ``(examples,)``.

Nothing is indexed: a search reads the texts as they lie in the file, a batch at a time, which takes 40 ms for 100,000
examples of 370 characters on one core (``make bench-data``) and a few megabytes, and cannot be older than the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hydralora.corpus.folder import Corpus
from hydralora.corpus.quality import FOLDER
from hydralora.errors import CorpusError
from hydralora.files import read_columns
from hydralora.results.quality import FINDINGS, LANGUAGES, TOKENS, UNTOLD


def search_texts(corpus: Corpus, text: str) -> np.ndarray:
    """Examples with ``text`` in prompt, answer or history; all where it is empty.

    ``text`` is plain: nothing in it is a pattern. Case is set aside by Unicode's simple folding, character by
    character, so ``ß`` is not ``ss``.
    """
    if not text:
        return np.ones(len(corpus), bool)
    if not _is_unicode(text):
        return np.zeros(len(corpus), bool)  # half a character stands in no text
    parts = [_hits(batch, text) for batch in corpus.scan("prompt", "answer", "history")]
    return np.concatenate(parts)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _hits(batch: pa.RecordBatch, text: str) -> np.ndarray:
    found = np.zeros(batch.num_rows, bool)
    for name in ("prompt", "answer"):
        found |= _contains(batch.column(name), text)
    history = batch.column("history")
    turns = history.flatten()
    if len(turns):
        owner = pc.list_parent_indices(history).to_numpy(zero_copy_only=False)
        found[owner[_contains(turns.field("content"), text)]] = True
    return found


def _contains(texts: pa.Array, text: str) -> np.ndarray:
    found = pc.fill_null(pc.match_substring(texts, text, ignore_case=True), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def with_labels(corpus: Corpus, labels: list[str]) -> np.ndarray:
    """Examples with one of these labels."""
    wanted = pa.array(labels, pa.string())
    parts = [pc.is_in(batch.column("label"), wanted) for batch in corpus.scan("label")]
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])


def characters(corpus: Corpus) -> np.ndarray:
    """Characters of prompt and answer together, ``(examples,)``."""
    parts = [
        pc.add(pc.utf8_length(batch.column("prompt")), pc.utf8_length(batch.column("answer")))
        for batch in corpus.scan("prompt", "answer")
    ]
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])


def tokens(corpus: Corpus) -> np.ndarray | None:
    """Tokens that the newest quality report counted, ``(examples,)``, -1 where an example was left out of it.

    None where no report has counted any.
    """
    path = corpus.folder / FOLDER / TOKENS
    if not path.exists():
        return None
    table, found = read_columns(path, "example", "tokens"), np.full(len(corpus), -1)
    found[table["example"].to_numpy()] = table["tokens"].to_numpy()
    return found


def between(values: np.ndarray, least: int | None, most: int | None) -> np.ndarray:
    """Where numbers that are known (0 and more) lie between two bounds, both included."""
    found = values >= (least or 0)
    return found if most is None else found & (values <= most)


def in_range_of_tokens(corpus: Corpus, least: int | None, most: int | None) -> np.ndarray:
    """Examples with so many tokens.

    Raises:
        CorpusError: When no report has counted tokens.
    """
    counted = tokens(corpus)
    if counted is None:
        raise CorpusError("No tokens were counted yet. Check the corpus for a base first, or select by characters.")
    return between(counted, least, most)


NO_LANGUAGE = "none"  # stands for examples whose language is not told


@dataclass(frozen=True)
class Languages:
    """The language of every example: names in the order of their numbers, and ``numbers`` ``(examples,)``, ``UNTOLD``
    where the newest quality report told none or left the example out."""

    names: list[str]
    numbers: np.ndarray

    def counts(self, mask: np.ndarray | None = None) -> dict[str, int]:
        """Examples in each language, the most frequent first, ``NO_LANGUAGE`` last; those of a mask ``(examples,)``
        where it is given. No language that stands nowhere in the corpus is named."""
        chosen = self.numbers if mask is None else self.numbers[mask]
        inside = np.bincount(chosen - UNTOLD, minlength=len(self.names) + 1)
        whole = np.bincount(self.numbers - UNTOLD, minlength=len(self.names) + 1)
        order = sorted(np.flatnonzero(whole), key=lambda place: (place == 0, -whole[place], place))
        return {self.names[place - 1] if place else NO_LANGUAGE: int(inside[place]) for place in order}


def languages(corpus: Corpus) -> Languages | None:
    """The language of every example; None where no report has told any."""
    path = corpus.folder / FOLDER / LANGUAGES
    if not path.exists():
        return None
    table, numbers = read_columns(path, "example", "language"), np.full(len(corpus), UNTOLD, np.int64)
    told = table["language"].combine_chunks().dictionary_encode()
    numbers[table["example"].to_numpy()] = pc.fill_null(told.indices, UNTOLD).to_numpy()
    return Languages(told.dictionary.to_pylist(), numbers)


def with_languages(corpus: Corpus, wanted: list[str]) -> np.ndarray:
    """Examples in one of these languages.

    Raises:
        CorpusError: When no report has told languages, or there is no such language in the corpus.
    """
    told = languages(corpus)
    if told is None:
        raise CorpusError("Languages were not told yet. Check the corpus first.")
    present = told.counts()
    for name in wanted:
        if name not in present:
            raise CorpusError(f"The last check found no language {name!r}; it found: {', '.join(present)}.")
    numbers = [told.names.index(name) if name != NO_LANGUAGE else UNTOLD for name in wanted]
    return np.isin(told.numbers, numbers)


def findings_of(corpus_folder: Path) -> dict[str, np.ndarray]:
    """Positions of the examples of each finding of the newest quality report, by kind; empty before the first."""
    path = corpus_folder / FOLDER / FINDINGS
    if not path.exists():
        return {}
    table = read_columns(path, "finding", "example")
    names = table["finding"].combine_chunks().dictionary_encode()
    which, examples = names.indices.to_numpy(), table["example"].to_numpy()
    return {kind: np.unique(examples[which == place]) for place, kind in enumerate(names.dictionary.to_pylist())}


def with_flags(found: dict[str, np.ndarray], flags: list[str], count: int) -> np.ndarray:
    """Examples with one of these findings.

    Raises:
        CorpusError: When the report has no such finding.
    """
    mask = np.zeros(count, bool)
    for flag in flags:
        if flag not in found:
            known = ", ".join(found) or "nothing; check the corpus first"
            raise CorpusError(f"The last check found no '{flag[:40]}'; it found: {known}.")
        mask[found[flag]] = True
    return mask


def mask_of(positions: np.ndarray, count: int) -> np.ndarray:
    """Positions inside the corpus as a mask; others are passed over."""
    mask = np.zeros(count, bool)
    mask[positions[(positions >= 0) & (positions < count)]] = True
    return mask
