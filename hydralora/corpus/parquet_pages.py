"""How large the pages of a Parquet file are unpacked, as each says itself: a page is unpacked whole.

A page begins with its header, a struct in Thrift's compact protocol
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, ``PageHeader``), and the next page
follows its packed bytes. The footer says where a column begins; what it says of sizes is not believed here.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow.parquet as pq

from hydralora import limits
from hydralora.corpus.reading import Source, mebibytes
from hydralora.errors import CorpusError

UNPACKED, PACKED = 2, 3  # fields of a page's header
STOP, TRUE, FALSE, BYTE, WHOLE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 0, 1, 2, 3, (4, 5, 6), 7, 8, 9, 10, 11, 12
MOST_DEPTH = 8  # of structs in a header; there are three
PADDING = 100  # bytes that old writers left out of a column's length


def measure_pages(metadata: pq.FileMetaData, source: Source) -> None:
    """Refuse a file with a page too large to be unpacked, or whose pages unpack to more than one of its size may.

    Raises:
        CorpusError: With the sizes.
    """
    total, most = 0, source.most_unpacked()
    with source.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for begin, end in _columns(metadata):
            for size in _page_sizes(data, begin, min(end, len(data))):
                total += size
                if size > limits.MAX_BATCH_BYTES:
                    raise CorpusError(
                        f"{source.name} has a page of {mebibytes(size)} unpacked; at most "
                        f"{mebibytes(limits.MAX_BATCH_BYTES)} are unpacked at once. Write it again with smaller pages."
                    )
                if total > most:
                    raise source.too_large(most)


def _columns(metadata: pq.FileMetaData) -> list[tuple[int, int]]:
    """Where the columns of each group of rows begin and end."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(metadata.num_columns)]
    found = []
    for column in columns:
        words = column.dictionary_page_offset if column.has_dictionary_page else 0
        begin = words if words and 0 < words < column.data_page_offset else column.data_page_offset
        found.append((max(0, begin), max(0, begin) + max(0, column.total_compressed_size) + PADDING))
    return found


def _page_sizes(data: mmap.mmap, begin: int, end: int) -> list[int]:
    """Bytes that each page of a column becomes, up to the first that is none: there the library ends too."""
    sizes = []
    while begin < end:
        try:
            header = _Header(data, begin, end)
        except (IndexError, RecursionError):
            break
        if header.packed < 0 or header.unpacked < 0:
            break
        sizes.append(header.unpacked)
        begin = header.end + header.packed
    return sizes


class _Header:
    """The header of one page: its two sizes, and where its bytes begin."""

    def __init__(self, data: mmap.mmap, begin: int, end: int) -> None:
        self._data, self.end, self._last = data, begin, end
        self.unpacked = self.packed = 0
        self._read(0)

    def _read(self, depth: int) -> None:
        """One struct; the sizes are in the outermost one."""
        if depth > MOST_DEPTH:
            raise IndexError("structs too deep in each other")
        field = 0
        while (head := self._byte()) != STOP:
            step, kind = head >> 4, head & 15
            field = field + step if step else self._whole()
            if depth == 0 and kind in WHOLE and field in (UNPACKED, PACKED):
                size = self._whole()
                self.unpacked, self.packed = (size, self.packed) if field == UNPACKED else (self.unpacked, size)
            else:
                self._skip(kind, depth)

    def _skip(self, kind: int, depth: int, *, is_item: bool = False) -> None:
        if kind in (TRUE, FALSE, BYTE):
            self.end += kind == BYTE or is_item  # a truth is in the head of its field
        elif kind in WHOLE:
            self._whole()
        elif kind == DOUBLE:
            self.end += 8
        elif kind == BINARY:
            length = self._number()
            self.end += length
        elif kind in (LIST, SET):
            self._skip_list(depth)
        elif kind == STRUCT:
            self._read(depth + 1)
        else:
            raise IndexError("no field of a page's header")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = self._number() if head >> 4 == 15 else head >> 4
        for _ in range(count):
            self._skip(head & 15, depth + 1, is_item=True)

    def _byte(self) -> int:
        if self.end >= self._last:
            raise IndexError("the header leads out of its column")
        self.end += 1
        return self._data[self.end - 1]

    def _number(self) -> int:
        """A number of seven bits a byte, the lowest first."""
        value = shift = 0
        while (byte := self._byte()) & 128 and shift < 63:
            value, shift = value | (byte & 127) << shift, shift + 7
        return value | byte << shift

    def _whole(self) -> int:
        """The same with its sign in the lowest bit."""
        value = self._number()
        return (value >> 1) ^ -(value & 1)
