"""Files that were packed alone (gzip, bzip2, xz, Zstandard), read as a stream that keeps within bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from hydralora import limits
from hydralora.corpus.reading import Source
from hydralora.errors import CorpusError, first_line

PIECE = 2**20  # bytes read at once
DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)


class _Xz:
    """An xz file whose dictionary, and so the memory for reading it, is bounded."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._stream = self._begin()

    @staticmethod
    def _begin() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.MAX_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while True:
            packed = b""
            if self._stream.eof:  # streams may follow each other, with zeros in between
                packed = (self._stream.unused_data or self._file.read(PIECE)).lstrip(b"\0")
                if not packed:
                    return b""
                self._stream = self._begin()
            elif self._stream.needs_input:
                packed = self._file.read(PIECE)
                if not packed:
                    raise EOFError("it ends too early")
            if data := self._stream.decompress(packed, size):
                return data

    def close(self) -> None:
        """Close the file below."""
        self._file.close()


@dataclass(frozen=True)
class Packing:
    """One way to pack a file: its name, the first bytes, the ending, and how it is opened."""

    name: str
    magic: bytes
    ending: str
    open: Callable[[Path], Any]


PACKINGS = (
    Packing("gzip", b"\x1f\x8b", ".gz", gzip.open),
    Packing("bzip2", b"BZh", ".bz2", bz2.open),
    Packing("xz", b"\xfd7zXZ\x00", ".xz", _Xz),
    Packing("Zstandard", b"\x28\xb5\x2f\xfd", ".zst", lambda path: pa.input_stream(str(path), compression="zstd")),
)
PACKED_ENDINGS = tuple(packing.ending for packing in PACKINGS)


def packing_of(head: bytes) -> Packing | None:
    """How something that begins with ``head`` was packed; None where it was not."""
    return next((packing for packing in PACKINGS if head.startswith(packing.magic)), None)


class Unpacked(io.RawIOBase):
    """The bytes of a file, unpacked where it is packed; reading stops with an error at the limit."""

    def __init__(self, source: Source) -> None:
        self._source, self.packing = source, packing_of(source.head(8))
        self._most = source.most_unpacked() if self.packing else limits.MAX_BYTES
        self.count = 0
        try:
            self._file = self.packing.open(source.path) if self.packing else source.path.open("rb")
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer``; gives the number of bytes.

        Raises:
            CorpusError: When the file is damaged, or is more than may be unpacked.
        """
        try:
            piece = self._file.read(len(buffer))
        except DAMAGED as error:
            raise self._damaged(error) from error
        self.count += len(piece)
        if self.count > self._most:
            raise self._source.too_large(self._most)
        if self.packing and self._source.budget is not None:
            self._source.budget.count(self.count, self._source.name)
        buffer[: len(piece)] = piece
        return len(piece)

    def _damaged(self, error: Exception) -> CorpusError:
        kind = f"{self.packing.name} " if self.packing else ""
        return CorpusError(f"{self._source.name} is a damaged {kind}file: {first_line(error)}. Pack it again.")

    def close(self) -> None:
        """Close the file below too."""
        self._file.close()
        super().close()


def opened(source: Source) -> io.BufferedReader:
    """The bytes of ``source``, unpacked, as a stream."""
    return io.BufferedReader(Unpacked(source), PIECE)


def pieces_of(stream: IO[bytes] | io.BufferedReader) -> Iterator[bytes]:
    """All bytes of a stream, ``PIECE`` by ``PIECE``."""
    while piece := stream.read(PIECE):
        yield piece


def write_out(pieces: Iterable[bytes], target: Path, name: str) -> int:
    """Write pieces to a file of ours, while the disk has room; gives the number of bytes.

    Raises:
        CorpusError: When the disk is full, naming what is unpacked as ``name``.
    """
    size = 0
    with target.open("wb") as file:
        for piece in pieces:
            if shutil.disk_usage(target.parent).free < limits.SPARE_DISK_BYTES:
                raise CorpusError(f"The disk has no room for {name} unpacked. Free some space and import it again.")
            size += file.write(piece)
    return size
