"""Rows of Arrow IPC files and streams, as `datasets` saves them to disk, in small batches that were validated."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hydralora import limits
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
            is_file = file.read(len(FILE)) == FILE
            file.seek(0)
            reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
            check_schema(reader.schema, source)
            batches = _batches(reader) if is_file else iter(reader)
            rows = rows_of_batches(_slices(batches), class_names(reader.schema), source, "Arrow")
            yield Table("arrow", rows, list(reader.schema.names))
    except BROKEN as error:
        if isinstance(error, (CorpusError, pa.ArrowMemoryError)):
            raise
        raise CorpusError(f"{source.name} is a damaged Arrow file: {first_line(error)}.") from error


def _batches(reader: pa.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small pieces of batches, whose lengths and places were checked: a hostile one would be read beyond its end."""
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, limits.PARQUET_BATCH_ROWS):
            yield batch.slice(start, limits.PARQUET_BATCH_ROWS)
