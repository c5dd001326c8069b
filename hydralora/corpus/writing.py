"""Examples written out again: as JSONL, CSV or Parquet, in shapes that an import reads back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from hydralora.corpus.examples import BATCH_ROWS, Example, conversation_of
from hydralora.corpus.folder import Corpus
from hydralora.errors import CorpusError
from hydralora.files import written_aside
from hydralora.sheets import as_csv

FORMATS = ("jsonl", "csv", "parquet")
CSV_COLUMNS = ("prompt", "answer", "system", "label", "split")
PAIRED = ("rejected",)  # a further column, of corpora that hold preferences


def check_format(name: str) -> str:
    """A format's name.

    Raises:
        CorpusError: When it is none.
    """
    if name not in FORMATS:
        raise CorpusError(f"Examples are written as {', '.join(FORMATS)}, not as '{name[:20]}'.")
    return name


def row_of(example: Example) -> dict[str, Any]:
    """An example as a row: a text, a prompt with its answer, or messages with what stands beside them."""
    split = {"held_out": "test"}.get(example.split, example.split)
    beside = _filled(rejected=example.rejected, label=example.label, split=split)
    if example.history or example.extra:
        messages = [{k: v for k, v in m.items() if k != "text"} for m in conversation_of(example)]
        tools = example.details().get("tools")
        return {"messages": messages, **({"tools": tools} if tools else {}), **beside}
    if not example.prompt:
        return {"text": example.answer, **beside}
    return {"prompt": example.prompt, "answer": example.answer, **_filled(system=example.system), **beside}


def _filled(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def pieces(corpus: Corpus, positions: Iterable[int], name: str) -> Iterator[str]:
    """The examples at these positions as text, JSONL or CSV, a batch at a time.

    Raises:
        CorpusError: When a conversation shall become a row of CSV.
    """
    columns = (*CSV_COLUMNS, *_more_columns(corpus))
    head: Sequence[object] = columns
    for batch in _batched(positions):
        rows = [row_of(example) for example in corpus.take(batch)]
        if name == "jsonl":
            yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:  # the head comes with the first rows, and so after a refusal
            cells = [_cells(row, columns) for row in rows]
            yield as_csv(head, cells)
            head = ()


def _more_columns(corpus: Corpus) -> tuple[str, ...]:
    return PAIRED if corpus.manifest.counts.pairs else ()


def _cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    if "messages" in row:
        raise CorpusError("A conversation does not fit into a row of CSV. Write JSONL or Parquet.")
    return [row.get("text", "") if name == "answer" and "text" in row else row.get(name, "") for name in columns]


def write_examples(corpus: Corpus, positions: Iterable[int], path: Path, name: str) -> None:
    """Write examples into a file, which appears only when complete. What a spreadsheet would run as a formula gets an
    apostrophe in CSV.

    Raises:
        CorpusError: When the format is none, or a conversation shall become a row of CSV.
        OSError: When the file cannot be written.
    """
    check_format(name)
    with written_aside(path) as aside:
        if name == "parquet":
            _write_parquet(corpus, positions, aside)
            return
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces(corpus, positions, name))


def _write_parquet(corpus: Corpus, positions: Iterable[int], path: Path) -> None:
    """Messages and tools stand as JSON text, since Parquet wants one type for a column."""
    import pyarrow.parquet as pq  # 4 MB that the web process needs only once it reads rows

    names = ("text", "prompt", "answer", "system", "messages", "tools", "label", "split", *_more_columns(corpus))
    schema = pa.schema([(name, pa.string()) for name in names])
    with pq.ParquetWriter(path, schema) as out:
        for batch in _batched(positions):
            rows = [row_of(example) for example in corpus.take(batch)]
            columns = [[_as_text(row.get(name)) for row in rows] for name in names]
            out.write_table(pa.table(columns, schema=schema))


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _batched(positions: Iterable[int]) -> Iterator[list[int]]:
    waiting = iter(positions)
    while batch := list(islice(waiting, BATCH_ROWS)):
        yield batch
