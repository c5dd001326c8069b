"""Rows of Arrow IPC files and streams, as `datasets` saves them to disk, in small batches that were validated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from hydralora import limits
from hydralora.corpus.arrow_size import measure_batches
from hydralora.corpus.columnar import BROKEN, check_schema, class_names, rows_of_batches
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Table
from hydralora.errors import CorpusError, first_line

FILE = b"ARROW1\x00\x00"
STREAM = b"\xff\xff\xff\xff"  # goes before the length of a message


def is_arrow(source: Source, head: bytes) -> bool:
    """Whether a file begins like an Arrow IPC file or stream."""
    return head.startswith(FILE) or (head.startswith(STREAM) and 0 < int.from_bytes(head[4:8], "little") < 2**24)


def open_arrow(source: Source) -> Iterator[Table]:
    """The table in ``source``.

    Raises:
        CorpusError: When it is damaged, or has too many columns.
    """
    try:
        with pa.memory_map(str(source.path)) as file:
            stream, count = _stream(file, source)
            check_schema(stream.schema, source)
            names = class_names(stream.schema)
            rows = rows_of_batches(_slices(_batches(stream, count, source), source), names, source, "Arrow")
            yield Table("arrow", rows, list(stream.schema.names))
    except BROKEN as error:
        if isinstance(error, (CorpusError, pa.ArrowMemoryError)):
            raise
        raise CorpusError(f"{source.name} is a damaged Arrow file: {first_line(error)}.") from error


def _stream(file: pa.MemoryMappedFile, source: Source) -> tuple[pa.RecordBatchStreamReader, int | None]:
    """The stream of batches that was measured, and how many there are where the end of the file tells it.

    A file holds a stream behind its mark. It is read as one: what its end says of places is not what was measured.
    """
    is_file = file.read(len(FILE)) == FILE
    file.seek(0)
    count = pa.ipc.open_file(file).num_record_batches if is_file else None
    start = len(FILE) if is_file else 0
    file.seek(start)
    measure_batches(file, source, count)
    file.seek(start)
    return pa.ipc.open_stream(file), count


def _batches(stream: pa.RecordBatchStreamReader, count: int | None, source: Source) -> Iterator[pa.RecordBatch]:
    """As many batches as there are."""
    found = 0
    for batch in stream if count is None else islice(stream, count):
        found += 1
        yield batch
    if count is not None and found < count:
        raise CorpusError(f"{source.name} is a damaged Arrow file: it holds {found:,} of its {count:,} batches.")


def _slices(batches: Iterator[pa.RecordBatch], source: Source) -> Iterator[pa.RecordBatch]:
    """Small pieces of batches, whose lengths and places were checked: a hostile one would be read beyond its end."""
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > limits.MAX_ROWS:
            raise CorpusError(
                f"{source.name} has {rows:,} rows or more; at most {limits.MAX_ROWS:,} are read. Split it into parts."
            )
        batch.validate(full=True)
        for start in range(0, batch.num_rows, limits.PARQUET_BATCH_ROWS):
            yield batch.slice(start, limits.PARQUET_BATCH_ROWS)
