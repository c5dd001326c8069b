"""Rows of Parquet files, whose sizes on disk, in the footer and in memory have little to do with each other.

A cell can be written once and mean a million rows, and nothing keeps a footer honest. So four bounds hold one after
the other: the footer itself, what it declares, what its pages unpack to, and what each small batch really holds, alone
and added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pyarrow.parquet as pq

from hydralora import limits
from hydralora.corpus.columnar import BROKEN, check_schema, class_names, rows_of_batches
from hydralora.corpus.parquet_pages import measure_pages
from hydralora.corpus.reading import Source, mebibytes
from hydralora.corpus.rows import Table, check_columns
from hydralora.errors import CorpusError, first_line

MAGIC = b"PAR1"
BUFFER = 2**20  # bytes of a column read at once, instead of all of it


def is_parquet(source: Source, head: bytes) -> bool:
    """Whether a file begins like Parquet."""
    return head.startswith(MAGIC)


def open_parquet(source: Source) -> Iterator[Table]:
    """The table in ``source``.

    Raises:
        CorpusError: When it is damaged, empty, or declares more than is read.
    """
    import pyarrow.parquet as pq

    _check_footer(source)
    try:
        file = pq.ParquetFile(
            source.path,
            buffer_size=BUFFER,
            pre_buffer=False,
            thrift_string_size_limit=limits.MAX_FOOTER_BYTES,
            thrift_container_size_limit=limits.MAX_FOOTER_ITEMS,
        )
        _check_declared(file.metadata, source)
        schema = file.schema_arrow
        check_schema(schema, source)
    except BROKEN as error:
        if isinstance(error, (CorpusError, pa.ArrowMemoryError)):
            raise
        raise CorpusError(f"{source.name} is a damaged Parquet file: {first_line(error)}.") from error
    measure_pages(file.metadata, source)
    batches = file.iter_batches(batch_size=limits.PARQUET_BATCH_ROWS, use_threads=False)
    yield Table("parquet", rows_of_batches(batches, class_names(schema), source, "Parquet"), list(schema.names))


def _check_footer(source: Source) -> None:
    """Look at the size of the footer, which the last eight bytes tell, before it is parsed."""
    with source.path.open("rb") as file:
        file.seek(max(0, source.size - 8))
        size, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    if magic == MAGIC and size > limits.MAX_FOOTER_BYTES:
        raise CorpusError(
            f"{source.name} describes itself in {mebibytes(size)}; at most {mebibytes(limits.MAX_FOOTER_BYTES)} are "
            "read. Write it again with fewer columns and row groups, and without other metadata."
        )


def _check_declared(metadata: pq.FileMetaData, source: Source) -> None:
    """Refuse what the footer itself calls too large; where it lies, ``_parquet_rows`` finds out."""
    if metadata.num_columns > limits.MAX_COLUMNS:
        check_columns([str(i) for i in range(metadata.num_columns)], source.name)
    if metadata.num_rows <= 0 or metadata.num_columns == 0:
        raise CorpusError(f"{source.name} holds no rows. Choose a file with at least two rows.")
    if metadata.num_rows > limits.MAX_ROWS:
        raise CorpusError(
            f"{source.name} has {metadata.num_rows:,} rows; at most {limits.MAX_ROWS:,} are read. Split it into parts."
        )
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if sum(group.total_byte_size for group in groups) > source.most_unpacked():
        raise source.too_large(source.most_unpacked())
    for group in groups:
        most = max(1, group.num_rows) * limits.MAX_CELL_VALUES
        if any(group.column(i).num_values > most for i in range(metadata.num_columns)):
            raise CorpusError(
                f"{source.name} has rows of more than {limits.MAX_CELL_VALUES:,} values in one column. Leave it out."
            )
