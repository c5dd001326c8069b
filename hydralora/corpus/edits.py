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
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from hydralora.corpus.examples import EXTRA, HASH, PROMPT_HASH, Example, batch_of
from hydralora.errors import CorpusError
from hydralora.files import written_aside

FOLDER, NEWEST = "edits", "newest"
NAME = re.compile(r"[0-9a-f]{16}")
COLUMNS = ("prompt", "answer", HASH, PROMPT_HASH)
MORE, BESIDE = "more", ("system", "history", EXTRA)  # columns of layers in which more than prompts and answers changed
GONE = (
    "The edits that this run began with are {}, so its rows cannot be read as they were. Put the corpus' folder back "
    "from a copy of yours, or start a new run."
)


class Wording(NamedTuple):
    """What an edited row says: prompt and answer, and, as JSON, what else of a conversation differs from the import.

    ``more`` holds ``system``, ``turns`` (texts by place) and ``extra``, each where it differs; empty for most.
    """

    prompt: str
    answer: str
    more: str = ""

    @property
    def details(self) -> dict[str, Any]:
        """``more`` as an object."""
        found: dict[str, Any] = json.loads(self.more) if self.more else {}
        return found


Edited = Mapping[int, tuple[str, str] | Wording]  # by position


def wording_of(imported: Example, edited: Example) -> Wording:
    """What an edited example says otherwise than the imported one."""
    texts = zip(imported.history, edited.history, strict=True)
    turns = {str(i): now for i, ((_, before), (_, now)) in enumerate(texts) if before != now}
    more: dict[str, Any] = {"turns": turns} if turns else {}
    for name in ("system", EXTRA):
        if getattr(edited, name) != getattr(imported, name):
            more[name] = getattr(edited, name)
    return Wording(edited.prompt, edited.answer, json.dumps(more, sort_keys=True, ensure_ascii=False) if more else "")


def edited_example(example: Example, wording: Wording) -> Example:
    """An imported example as an edit words it; all else stays."""
    more = wording.details
    turns = more.get("turns", {})
    history = tuple((role, turns.get(str(i), text)) for i, (role, text) in enumerate(example.history))
    beside = {name: more[name] for name in ("system", EXTRA) if name in more}
    return replace(example, prompt=wording.prompt, answer=wording.answer, history=history, **beside)


def name_edits(edited: Edited) -> str:
    """What a layer of these rows is called; empty where there are none."""
    rows = [[position, *edited[position][:2], *filter(None, edited[position][2:])] for position in sorted(edited)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] if rows else ""


def write_edits(folder: Path, edited: Edited, examples: Iterable[Example]) -> str:
    """Keep a layer, as ``keep_layer`` does, and make it the newest; gives its name."""
    name = keep_layer(folder, edited, examples)
    with written_aside(folder / FOLDER / NEWEST) as aside:
        aside.write_text(name, "ascii")
    return name


def keep_layer(folder: Path, edited: Edited, examples: Iterable[Example]) -> str:
    """Keep a layer beside the others; gives its name.

    Args:
        folder: That of the corpus.
        examples: The imported examples at the positions of ``edited``, in ascending order.
    """
    import pyarrow.parquet as pq  # 4 MB that the web process needs only once it reads rows

    name, positions = name_edits(edited), sorted(edited)
    path = _path(folder, name)
    (folder / FOLDER).mkdir(exist_ok=True)
    if name and not path.exists():
        wordings = [Wording(*edited[place]) for place in positions]
        rows = [edited_example(e, wording) for wording, e in zip(wordings, examples, strict=True)]
        table = {
            "position": pa.array(positions, pa.int64()),
            "prompt": pa.array([row.prompt for row in rows], pa.string()),
            "answer": pa.array([row.answer for row in rows], pa.string()),
            HASH: pa.array([row.hash_number() for row in rows], pa.uint64()),
            PROMPT_HASH: pa.array([row.prompt_number() for row in rows], pa.uint64()),
        }
        if any(wording.more for wording in wordings):
            whole = batch_of(rows)
            table |= {MORE: pa.array([wording.more for wording in wordings], pa.string())}
            table |= {column: whole.column(column) for column in BESIDE}
        with written_aside(path) as aside:
            pq.write_table(pa.table(table), aside)
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

    def wordings(self) -> dict[int, Wording]:
        """What each of its rows says, by position."""
        names = [name for name in ("prompt", "answer", MORE) if name in self.columns]
        texts = zip(*(self.columns[name].to_pylist() for name in names), strict=True)
        return {position: Wording(*said) for position, said in zip(self.positions.tolist(), texts, strict=True)}

    def on(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        """A batch of the file, whose first row is at ``start``, with its edited rows in their place."""
        low, high = np.searchsorted(self.positions, [start, start + batch.num_rows])
        if low == high:
            return batch
        mask = np.zeros(batch.num_rows, bool)
        mask[self.positions[low:high] - start] = True
        columns = [
            _replaced(column, mask, self.columns[name].slice(low, high - low)) if name in self.columns else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.record_batch(columns, batch.schema)


def _replaced(column: pa.Array, mask: np.ndarray, values: pa.Array) -> pa.Array:
    """A column with others of its values where the mask holds, ``(rows,)``; lists as well, which Arrow's own
    ``replace_with_mask`` does not take."""
    places = np.arange(len(column))
    places[mask] = len(column) + np.arange(len(values))
    return pa.concat_arrays([column, values]).take(pa.array(places))


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
        table = _read(_path(folder, name))
        columns = {column: table[column].combine_chunks() for column in table.column_names}
        layer = Layer(columns.pop("position").to_numpy(), columns)
        edited = layer.wordings()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise CorpusError(GONE.format("damaged")) from error
    if name_edits(edited) != name or layer.positions[-1] >= count:
        raise CorpusError(GONE.format("damaged"))
    return layer


def _read(path: Path) -> pa.Table:
    """The columns of a layer; those of earlier versions, and of most, are prompts and answers alone."""
    import pyarrow.parquet as pq  # 4 MB that the web process needs only once it reads rows

    with pq.ParquetFile(path, memory_map=False) as file:
        more = (MORE, *BESIDE) if MORE in file.schema_arrow.names else ()
        return file.read(columns=["position", *COLUMNS, *more], use_threads=False)


def _path(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.parquet"
