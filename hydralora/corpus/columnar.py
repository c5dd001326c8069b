"""What Parquet and Arrow tables share: schemas that are bounded, and batches looked at before they become rows.

A cell can be kept once and mean a million rows, so what a small batch really holds is counted, alone and added up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from hydralora import limits
from hydralora.corpus.reading import Source, mebibytes, shown_name
from hydralora.corpus.rows import Row, check_columns
from hydralora.errors import CorpusError, first_line

OBJECT_BYTES = 64  # of memory for a value as a Python object, beside its own bytes
TEXTS = (pa.StringArray, pa.LargeStringArray, pa.BinaryArray, pa.LargeBinaryArray)
LISTS = (pa.ListArray, pa.LargeListArray, pa.ListViewArray, pa.LargeListViewArray, pa.FixedSizeListArray)
VIEWS = (pa.StringViewArray, pa.BinaryViewArray)  # whose values may lie in one place
BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError)  # KeyError: a time zone nobody knows


def check_schema(schema: pa.Schema, source: Source) -> None:
    """Refuse too many columns, values too deep in each other, and kinds whose size cannot be told beforehand.

    Raises:
        CorpusError: Naming the file and the limit.
    """
    check_columns(list(schema.names), source.name)
    odd = next((item for item in schema if any(map(_is_odd, _kinds(item.type)))), None)
    if odd is not None:
        raise CorpusError(
            f"{source.name}: the column {shown_name(odd.name)!r} is run-end encoded or a union, which is not read. "
            "Write it as plain values."
        )
    if any(_depth(item.type) > limits.MAX_DEPTH for item in schema):
        raise CorpusError(
            f"{source.name} has a column of values more than {limits.MAX_DEPTH} deep in each other. Leave it out."
        )


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and those inside of it, also of dictionaries and extensions; no deeper than ``MAX_DEPTH``."""
    level = [kind]
    for _ in range(limits.MAX_DEPTH):
        yield from level
        level = [inner for outer in level for inner in _inner_kinds(outer)]


def _inner_kinds(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if pa.types.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(i).type for i in range(0 if _is_odd(kind) else kind.num_fields)]


def _is_odd(kind: pa.DataType) -> bool:
    return bool(pa.types.is_run_end_encoded(kind) or pa.types.is_union(kind))


def _depth(kind: pa.DataType) -> int:
    """How many lists, maps and structures stand in each other; counting ends beyond ``MAX_DEPTH``."""
    level, depth = [kind], 0
    while level and depth <= limits.MAX_DEPTH:
        level = [outer.field(i).type for outer in level for i in range(outer.num_fields)]
        depth += 1
    return depth


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of label numbers that the `datasets` library keeps in the schema's metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if not raw:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
        return {
            key: value["names"]
            for key, value in features.items()
            if isinstance(value, dict) and isinstance(value.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # foreign metadata: the numbers are shown as they are


def rows_of_batches(
    batches: Iterator[pa.RecordBatch], names: dict[str, list[str]], source: Source, format: str
) -> Iterator[Row]:
    """The rows of small batches, with the names of labels in the place of their numbers.

    Raises:
        CorpusError: When a batch is broken, or they hold more than may be read.
    """
    number = 0
    try:
        for batch in _bounded(batches, source):
            for values in batch.to_pylist():
                number += 1
                for column, labels in names.items():
                    index = values.get(column)
                    if isinstance(index, int) and 0 <= index < len(labels):
                        values[column] = labels[index]
                yield Row(number, values)
    except (CorpusError, pa.ArrowMemoryError):
        raise
    except BROKEN as error:
        raise CorpusError(
            f"{source.name}: row {number + 1} of the {format} file cannot be read: {first_line(error)}."
        ) from error


def _bounded(batches: Iterator[pa.RecordBatch], source: Source) -> Iterator[pa.RecordBatch]:
    """The batches, each looked at before it becomes Python objects."""
    total, most = 0, source.most_unpacked()
    for batch in batches:
        held = sum(_count_bytes(column) for column in batch.columns)
        total += held
        if total > most:
            raise source.too_large(most)
        if held + OBJECT_BYTES * sum(_count_values(column) for column in batch.columns) > limits.MAX_BATCH_BYTES:
            raise CorpusError(
                f"{source.name} has {limits.PARQUET_BATCH_ROWS} rows that take more than "
                f"{mebibytes(limits.MAX_BATCH_BYTES)} of memory. Leave out the columns that hold no texts."
            )
        yield batch


def _count_bytes(column: pa.Array) -> int:
    """Bytes of a column's values, each counted as often as it stands there, though it may be kept once."""
    if isinstance(column, pa.ExtensionArray):
        return _count_bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        if not isinstance(column.dictionary, TEXTS):
            return len(column) * _count_bytes(column.dictionary)  # at most
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    if isinstance(column, pa.StructArray):
        return sum(_count_bytes(column.field(i)) for i in range(column.type.num_fields))
    if isinstance(column, (*LISTS, pa.MapArray)):
        return 8 * len(column) + sum(map(_count_bytes, _inside(column)))
    return int(column.nbytes) * (len(column) if isinstance(column, VIEWS) else 1)


def _count_values(column: pa.Array) -> int:
    """Values in a column, those inside of lists and structures included."""
    if isinstance(column, pa.ExtensionArray):
        return _count_values(column.storage)
    if isinstance(column, pa.StructArray):
        return len(column) + sum(_count_values(column.field(i)) for i in range(column.type.num_fields))
    if isinstance(column, (*LISTS, pa.MapArray)):
        return len(column) + sum(map(_count_values, _inside(column)))
    return len(column)


def _inside(column: pa.Array) -> list[pa.Array]:
    """What lies in the lists or maps of a column."""
    if not isinstance(column, pa.MapArray):
        return [column.flatten()]
    first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
    return [part.slice(first, last - first) for part in (column.keys, column.items)]
