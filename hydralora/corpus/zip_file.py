"""Zip files from outside, also those that are documents and workbooks: their list and every member are bounded."""

from __future__ import annotations

import copy
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from hydralora import limits
from hydralora.corpus.packing import PIECE
from hydralora.corpus.reading import Source, mebibytes, shown_name
from hydralora.errors import CorpusError, first_line

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
ENCRYPTED = 0x1  # of a member's flags
DAMAGED = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, zlib.error)


class BoundedReads(io.FileIO):
    """A file that is never read in large pieces, since what an archive says of its members is read in one."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``MAX_LISTING_BYTES``.

        Raises:
            CorpusError: When more are asked for.
        """
        rest = os.fstat(self.fileno()).st_size - self.tell()
        if (rest if size is None or size < 0 else min(size, rest)) > limits.MAX_LISTING_BYTES:
            raise CorpusError(
                f"it lists its files in more than {mebibytes(limits.MAX_LISTING_BYTES)}. Pack fewer files together."
            )
        return super().read(size) or b""


@contextmanager
def open_zip(source: Source) -> Iterator[zipfile.ZipFile]:
    """A zip file whose list of members was read within bounds.

    Raises:
        CorpusError: When it is damaged, lists too many members, or one of them needs a password.
    """
    try:
        with BoundedReads(source.path) as file, zipfile.ZipFile(file) as archive:  # type: ignore[type-var]
            _check_list(archive, source)
            yield archive
    except CorpusError as error:
        raise error if str(error).startswith(source.name) else CorpusError(f"{source.name}: {error}") from error
    except DAMAGED as error:
        raise CorpusError(f"{source.name} is a damaged zip file: {first_line(error)}. Pack it again.") from error


def _check_list(archive: zipfile.ZipFile, source: Source) -> None:
    items = archive.infolist()
    if len(items) > limits.MAX_MEMBERS:
        raise CorpusError(
            f"{source.name} lists {len(items):,} files; at most {limits.MAX_MEMBERS:,} are looked at. "
            "Pack fewer files together."
        )
    for item in items:
        if item.flag_bits & ENCRYPTED:
            raise CorpusError(
                f"{source.name}: {shown_name(item.filename)} is protected by a password. Give it without one."
            )


def member_pieces(archive: zipfile.ZipFile, item: zipfile.ZipInfo, source: Source, most: int) -> Iterator[bytes]:
    """The bytes of a member in pieces; reading ends with an error where it is larger than ``most``, whatever is listed.

    Raises:
        CorpusError: Naming the member.
    """
    honest = copy.copy(item)
    honest.file_size = 2**62  # what is listed is not trusted: reading goes on to the real end, or to the bound
    size = 0
    try:
        with archive.open(honest) as stream:
            while piece := stream.read(PIECE):
                size += len(piece)
                if size > most:
                    raise CorpusError(
                        f"{source.name}: {shown_name(item.filename)} is larger than {mebibytes(most)} unpacked, the "
                        "limit for one of its kind and packed size. If it is honest, give it unpacked and in parts."
                    )
                yield piece
    except CorpusError:
        raise
    except DAMAGED as error:
        name = shown_name(item.filename)
        raise CorpusError(f"{source.name}: {name} is damaged: {first_line(error)}. Pack it again.") from error


def measured_parts(
    archive: zipfile.ZipFile, source: Source, most: int
) -> Iterator[tuple[zipfile.ZipInfo, Iterator[bytes]]]:
    """Every part of a document, whose pieces are to be read before the next one; together they keep within ``most``.

    Raises:
        CorpusError: When they do not, or one is damaged.
    """
    most = min(most, source.most_unpacked())
    total = 0

    def counted(item: zipfile.ZipInfo) -> Iterator[bytes]:
        nonlocal total
        for piece in member_pieces(archive, item, source, most):
            total += len(piece)
            if total > most:
                raise source.too_large(most)
            yield piece

    for item in archive.infolist():
        yield item, counted(item)


def read_member(archive: zipfile.ZipFile, name: str, source: Source) -> bytes:
    """A part of a document, whole.

    Raises:
        CorpusError: When it is missing, damaged or too large.
    """
    try:
        item = archive.getinfo(name)
    except KeyError as error:
        raise CorpusError(f"{source.name} is damaged: it lacks {shown_name(name)}. Save it again.") from error
    return b"".join(member_pieces(archive, item, source, limits.MAX_DOCUMENT_BYTES))


def zip_kind(source: Source, head: bytes) -> str:
    """What a zip file is: such as ``xlsx``, ``docx``, ``ods``, ``epub`` or ``zip``; empty for another file."""
    if not head.startswith(MAGIC):
        return ""
    try:
        with open_zip(source) as archive:
            names = set(archive.namelist())
            stated = read_member(archive, "mimetype", source) if "mimetype" in names else b""
    except CorpusError:
        return "zip"  # opening it says what is wrong
    parts = {"xl/workbook.xml": "xlsx", "xl/workbook.bin": "xlsb", "word/document.xml": "docx"}
    for part, kind in parts.items():
        if part in names:
            return kind
    kinds = {b"opendocument.spreadsheet": "ods", b"opendocument.text": "odt", b"epub+zip": "epub"}
    return next((kind for words, kind in kinds.items() if words in stated[:200]), "zip")
