"""How much memory the batches of an Arrow file take once they are unpacked, found out before the library does it.

A batch is unpacked whole, and each of its packed buffers begins with the length it will have (int64, -1 where it is not
packed after all). Where these buffers lie is told by the head of the batch, a flatbuffer:
https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message and format/Message.fbs of Apache Arrow.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from hydralora.corpus.reading import Source
from hydralora.errors import CorpusError

DICTIONARY, BATCH = 2, 3  # kinds of a message's head
HEAD_KIND, HEAD = 1, 2  # places of fields in a message
INNER_BATCH = 1  # in a dictionary
BUFFERS, PACKING = 2, 3  # in a batch


def measure_batches(stream: pa.NativeFile, source: Source, count: int | None = None) -> None:
    """Add up what the packed buffers of all messages of an IPC stream unpack to; nothing is unpacked.

    Args:
        stream: At its first message.
        source: The file, for messages and its bounds.
        count: Batches that are read; all where None.

    Raises:
        CorpusError: When that is more than may come out of a file of its size, or a head is damaged.
    """
    total, batches, most = 0, 0, source.most_unpacked()
    try:
        for message in pa.ipc.MessageReader.open_stream(stream):
            total += _unpacked_bytes(memoryview(message.metadata), message.body)
            if total > most:
                raise source.too_large(most)
            batches += message.type == "record batch"
            if batches == count:
                return
    except struct.error as error:
        raise CorpusError(f"{source.name} is a damaged Arrow file: a head leads out of it.") from error


def _unpacked_bytes(data: memoryview, body: pa.Buffer | None) -> int:
    """Bytes of the packed buffers of one message, unpacked."""
    message = _Table(data, _number(data, 0, "<I"))
    kind = message.value(HEAD_KIND, "<B")
    batch = message.table(HEAD) if kind in (DICTIONARY, BATCH) else None
    batch = batch.table(INNER_BATCH) if batch and kind == DICTIONARY else batch
    if batch is None or body is None or batch.table(PACKING) is None:
        return 0
    packed = memoryview(body)
    return sum(_length(packed, offset, length) for offset, length in batch.places(BUFFERS))


def _length(packed: memoryview, offset: int, length: int) -> int:
    """Bytes that one packed buffer becomes."""
    if length < 8:
        return 0
    said = _number(packed, offset, "<q")
    return length - 8 if said == -1 else abs(said)


class _Table:
    """A table of a flatbuffer: fields by their numbers, at places told relative to it."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - _number(data, place, "<i")
        self._size = _number(data, self._fields, "<H")

    def _find(self, field: int) -> int:
        """Where a field lies; 0 where it was left out."""
        entry = 4 + 2 * field
        offset = _number(self._data, self._fields + entry, "<H") if entry < self._size else 0
        return self._place + offset if offset else 0

    def value(self, field: int, form: str) -> int:
        """A number; 0 where it was left out."""
        place = self._find(field)
        return _number(self._data, place, form) if place else 0

    def table(self, field: int) -> _Table | None:
        """A table inside."""
        place = self._find(field)
        return _Table(self._data, place + _number(self._data, place, "<I")) if place else None

    def places(self, field: int) -> list[tuple[int, int]]:
        """A list of offsets with lengths."""
        place = self._find(field)
        if not place:
            return []
        start = place + _number(self._data, place, "<I")
        end = start + 4 + 16 * _number(self._data, start, "<I")
        if end > len(self._data):
            raise struct.error("a list that is longer than its head")
        return list(struct.iter_unpack("<qq", self._data[start + 4 : end]))


def _number(data: memoryview, place: int, form: str) -> int:
    """The number at a place; ``struct.error`` where that lies outside."""
    if place < 0:
        raise struct.error("a place before the first byte")
    return int(struct.unpack_from(form, data, place)[0])
