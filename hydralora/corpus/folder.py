"""A corpus that was imported, read at random from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from hydralora.corpus.edits import newest_edits, read_edits
from hydralora.corpus.examples import BATCH_ROWS, EXAMPLES, FIELDS, HASH, PROMPT_HASH, Example, examples_at
from hydralora.corpus.rows import Rejected
from hydralora.errors import CorpusError
from hydralora.results import CorpusManifest
from hydralora.results.corpus import REJECTED


class Corpus:
    """An imported corpus, read from its folder without loading it whole.

    ``len(corpus)``, ``corpus.page(offset, limit)`` and ``corpus.take(ids)`` give examples;
    ids are positions ``0..len-1``. The file is memory-mapped, so a page costs the rows on it.

    Args:
        edits: Name of the layer of edited rows that lies over the import (``hydralora.corpus.edits``); the newest one
            where None, none where empty.

    Raises:
        CorpusError: When there is none in the folder, or no such layer.
        ResultError: When its manifest is damaged.
    """

    def __init__(self, folder: Path, edits: str | None = None) -> None:
        if not (folder / CorpusManifest.FILE).exists():
            raise CorpusError(f"No corpus is kept at {folder.name}. Import it again.")
        self.folder, self.manifest = folder, CorpusManifest.read(folder)
        self._reader = pa.ipc.open_file(pa.memory_map(str(folder / EXAMPLES)))
        self.edits = newest_edits(folder) if edits is None else edits
        self._layer = read_edits(folder, self.edits, len(self))

    def __len__(self) -> int:
        return self.manifest.examples

    def page(self, offset: int, limit: int) -> list[Example]:
        """Examples ``offset .. offset + limit``, fewer at the end."""
        return self.take(range(max(offset, 0), min(offset + limit, len(self))))

    def take(self, ids: Iterable[int]) -> list[Example]:
        """The examples at these positions, in the order given.

        Raises:
            CorpusError: When a position is outside the corpus.
        """
        found: list[Example] = []
        for number, positions in groupby(ids, lambda position: position // BATCH_ROWS):
            places = list(positions)
            outside = next((position for position in places if not 0 <= position < len(self)), None)
            if outside is not None:
                raise CorpusError(f"Example {outside} is outside this corpus of {len(self):,}.")
            batch = self._batch(number)
            found += examples_at(batch, [place % BATCH_ROWS for place in places])
        return found

    def __iter__(self) -> Iterator[Example]:
        for examples in self.stream(np.arange(len(self))):
            yield from examples

    def stream(self, positions: np.ndarray) -> Iterator[list[Example]]:
        """The examples at these positions ``(rows,)``, ascending, those of a batch at a time.

        As with ``scan``, the memory of a batch is given back.
        """
        names = [name for name in FIELDS if name in self._reader.schema.names]
        for number, batch in enumerate(self.scan(*names)):
            begin = number * BATCH_ROWS
            low, high = np.searchsorted(positions, (begin, begin + BATCH_ROWS))
            if low < high:
                yield examples_at(batch, (positions[low:high] - begin).tolist())

    def scan(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Columns of all examples as they lie in the file, in its order, a batch at a time: nothing is made of them.

        Read into memory that is given back: mapped, all pages that were looked at would count as this process's own
        for as long as it lives.
        """
        places = [self._reader.schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=places, use_threads=False)
        with pa.OSFile(str(self.folder / EXAMPLES)) as file:
            reader = pa.ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                yield self._layer.on(reader.get_batch(number), number * BATCH_ROWS)

    def rejected(self) -> list[Rejected]:
        """The rejected rows that were listed, in file order."""
        lines = (self.folder / REJECTED).read_text("utf-8").splitlines()
        return [Rejected(**json.loads(line)) for line in lines]

    def hashes(self) -> np.ndarray:
        """``Example.hash_number`` of every example, ``(examples,)``; made anew where the file holds none."""
        if HASH not in self._reader.schema.names:
            return np.array([example.hash_number() for example in self], dtype=np.uint64)
        return self._column(HASH)

    def prompt_hashes(self) -> np.ndarray:
        """``Example.prompt_number`` of every example, ``(examples,)``; made anew where the file holds none."""
        if PROMPT_HASH not in self._reader.schema.names:
            return np.array([example.prompt_number() for example in self], dtype=np.uint64)
        return self._column(PROMPT_HASH)

    def splits(self) -> np.ndarray:
        """``Example.split`` of every example, ``(examples,)``."""
        names, numbers = self._named("split")
        return np.array(names, object)[numbers]

    def labels(self) -> tuple[list[str], np.ndarray]:
        """The different labels, in the order in which they come, and the number of that of every example
        ``(examples,)``."""
        return self._named("label")

    def _column(self, name: str) -> np.ndarray:
        """Numbers of 64 bits, ``(examples,)``, copied out of each batch: a part of one keeps all of it in memory."""
        found = np.empty(len(self), np.uint64)
        for number, batch in enumerate(self.scan(name)):
            begin = number * BATCH_ROWS
            found[begin : begin + batch.num_rows] = batch.column(0).to_numpy()
        return found

    def _named(self, column: str) -> tuple[list[str], np.ndarray]:
        names: dict[str, int] = {}
        found = np.empty(len(self), np.int32)
        for number, batch in enumerate(self.scan(column)):
            begin, texts = number * BATCH_ROWS, batch.column(0).dictionary_encode()
            known = [names.setdefault(name, len(names)) for name in texts.dictionary.to_pylist()]
            found[begin : begin + batch.num_rows] = np.array(known, np.int32)[texts.indices.to_numpy()]
        return list(names), found

    def _batch(self, number: int) -> pa.RecordBatch:
        """A batch of the file, edited rows in their place."""
        return self._layer.on(self._reader.get_batch(number), number * BATCH_ROWS)
