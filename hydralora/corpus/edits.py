"""Rows that were edited: a layer over an import that is never changed, called by its own hash.

The import stays as it was. A layer lies beside it and holds every edited row whole; which layer is the newest one
stands in a file of one line. A run names the layer that it was started with in its configuration (``train.edits``),
so it is split, trained, resumed and measured alike whatever is edited later; everything else reads the newest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hydralora.corpus.examples import HASH, PROMPT_HASH, Example
from hydralora.errors import CorpusError
from hydralora.files import read_columns, written_aside

FOLDER, NEWEST = "edits", "newest"
NAME = re.compile(r"[0-9a-f]{16}")
COLUMNS = ("prompt", "answer", HASH, PROMPT_HASH)
GONE = (
    "The edits that this run began with are {}, so its rows cannot be read as they were. Put the corpus' folder back "
    "from a copy of yours, or start a new run."
)

Edited = Mapping[int, tuple[str, str]]  # prompt and answer by position


def edited_example(example: Example, prompt: str, answer: str) -> Example:
    """An example with another prompt and answer; all else stays."""
    return replace(example, prompt=prompt, answer=answer)


def name_edits(edited: Edited) -> str:
    """What a layer of these rows is called; empty where there are none."""
    rows = [[position, *edited[position]] for position in sorted(edited)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] if rows else ""


def write_edits(folder: Path, edited: Edited, examples: Iterable[Example]) -> str:
    """Keep a layer, and make it the newest; gives its name.

    Args:
        folder: That of the corpus.
        examples: The imported examples at the positions of ``edited``, in ascending order.
    """
    name, positions = name_edits(edited), sorted(edited)
    path = _path(folder, name)
    (folder / FOLDER).mkdir(exist_ok=True)
    if name and not path.exists():
        rows = [edited_example(e, *edited[place]) for place, e in zip(positions, examples, strict=True)]
        table = {
            "position": pa.array(positions, pa.int64()),
            "prompt": pa.array([row.prompt for row in rows], pa.string()),
            "answer": pa.array([row.answer for row in rows], pa.string()),
            HASH: pa.array([row.hash_number() for row in rows], pa.uint64()),
            PROMPT_HASH: pa.array([row.prompt_number() for row in rows], pa.uint64()),
        }
        with written_aside(path) as aside:
            pq.write_table(pa.table(table), aside)
    with written_aside(folder / FOLDER / NEWEST) as aside:
        aside.write_text(name, "ascii")
    return name


def newest_edits(folder: Path) -> str:
    """The name of the newest layer; empty where nothing is edited."""
    path = folder / FOLDER / NEWEST
    return path.read_text("ascii").strip() if path.exists() else ""


@dataclass(frozen=True)
class Layer:
    """Edited rows: positions, ascending, ``(edited,)``, and their columns."""

    positions: np.ndarray
    columns: dict[str, pa.Array]

    def on(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        """A batch of the file, whose first row is at ``start``, with its edited rows in their place."""
        low, high = np.searchsorted(self.positions, [start, start + batch.num_rows])
        if low == high:
            return batch
        mask = np.zeros(batch.num_rows, bool)
        mask[self.positions[low:high] - start] = True
        columns = [
            pc.replace_with_mask(column, pa.array(mask), self.columns[name].slice(low, high - low))
            if name in self.columns
            else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.record_batch(columns, batch.schema)


NOTHING = Layer(np.zeros(0, np.int64), {})


def read_edits(folder: Path, name: str, count: int) -> Layer:
    """A layer of a corpus with ``count`` examples; none of them is edited where the name is empty.

    Raises:
        CorpusError: When there is no such layer, it is damaged, or of another corpus.
    """
    if not name:
        return NOTHING
    if not NAME.fullmatch(name) or not _path(folder, name).is_file():
        raise CorpusError(GONE.format("gone"))
    try:
        table = read_columns(_path(folder, name), "position", *COLUMNS)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CorpusError(GONE.format("damaged")) from error
    positions = table["position"].to_numpy()
    columns = {column: table[column].combine_chunks() for column in COLUMNS}
    texts = zip(columns["prompt"].to_pylist(), columns["answer"].to_pylist(), strict=True)
    edited = dict(zip(positions.tolist(), texts, strict=True))
    if name_edits(edited) != name or positions[-1] >= count:
        raise CorpusError(GONE.format("damaged"))
    return Layer(positions, columns)


def _path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.parquet"
