"""How much the texts of a workbook take once they stand in every cell that names them.

The XML is read by a parser and not by patterns: what a pattern takes for a tag may be a comment.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from hydralora import limits
from hydralora.corpus.reading import Source, mebibytes
from hydralora.corpus.zip_file import member_pieces
from hydralora.errors import CorpusError

TEXTS = "sharedstrings.xml"
SHARED = (b'"s"', b"'s'")  # the kind of a cell that names a shared text, as it must be written
TEXT_BUFFER = 2**16  # bytes of text that are handed over at once


class XmlReader:
    """The XML of a part as it passes by: its tags and texts are handed on.

    Args:
        source: The workbook, for messages.
        start: Called with the name and the attributes of an element.
        end: Called with the name of an element that ends.
        add: Called with text.
    """

    def __init__(
        self,
        source: Source,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        add: Callable[[str], None],
    ) -> None:
        self._source, self._parser = source, expat.ParserCreate()
        self._parser.buffer_text, self._parser.buffer_size = True, TEXT_BUFFER
        self._parser.StartElementHandler, self._parser.EndElementHandler = start, end
        self._parser.CharacterDataHandler = add
        self._parser.EntityDeclHandler = self._refuse_entities

    def feed(self, piece: bytes) -> None:
        """The next piece.

        Raises:
            CorpusError: When this is no XML, or declares entities.
        """
        try:
            self._parser.Parse(piece)
        except expat.ExpatError as error:
            raise CorpusError(f"{self._source.name} is a damaged workbook: {error}. Save it again.") from error

    def _refuse_entities(self, *_: Any) -> None:
        raise CorpusError(f"{self._source.name} declares entities of its own, which no workbook needs. Save it again.")


def count_naming(before: bytes, piece: bytes) -> int:
    """How many cells in a piece behind another may name a shared text; never fewer than do."""
    window = before[-2:] + piece
    return sum(window.count(mark) for mark in SHARED)


def check_repeated(size: int, source: Source) -> None:
    """Refuse texts that take too much once they stand in every cell.

    Raises:
        CorpusError: When they do.
    """
    if size > limits.MAX_SHEET_BYTES:
        raise CorpusError(
            f"{source.name} repeats long texts in so many cells that they take {mebibytes(size)}; at most "
            f"{mebibytes(limits.MAX_SHEET_BYTES)} are read. Save the sheets as CSV."
        )


class SharedTexts:
    """Bytes of each text that the cells of an XLSX share, by its number; where several parts tell them, the most."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.lengths: list[int] = []

    def part(self, name: str) -> _Texts | _NoTexts:
        """What reads a part of this name as it passes by."""
        return _Texts(self._source, self.lengths) if name.lower().endswith(TEXTS) else _NoTexts()

    def length(self, number: str) -> int:
        """Bytes of the text that a cell names; of the longest where it cannot be told which that is."""
        try:
            return self.lengths[int(float(number))]
        except (ValueError, OverflowError, IndexError):
            return max(self.lengths, default=0)

    def check(self, archive: zipfile.ZipFile, sheets: list[tuple[zipfile.ZipInfo, int]]) -> None:
        """Refuse sheets, given with the number of cells that may name a text, in which these take too much.

        Their cells are looked at one by one only where the longest text in all of them would be too much.

        Raises:
            CorpusError: When they do.
        """
        if sum(naming for _, naming in sheets) * max(self.lengths, default=0) <= limits.MAX_SHEET_BYTES:
            return
        size = 0
        for item, naming in sheets:
            cells = _Cells(self._source, self)
            for piece in member_pieces(archive, item, self._source, limits.MAX_SHEET_BYTES) if naming else ():
                cells.feed(piece)
            size += cells.size
        check_repeated(size, self._source)


class _NoTexts:
    """A part that holds no shared texts."""

    def feed(self, piece: bytes) -> None:
        """The next piece of the part."""


class _Texts(XmlReader):
    """A part of shared texts."""

    def __init__(self, source: Source, lengths: list[int]) -> None:
        super().__init__(source, self._start, self._end, self._add)
        self._lengths, self._count, self._depth, self._length = lengths, 0, 0, 0

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if tag.rpartition(":")[2] == "si":
            self._depth, self._length = self._depth + 1, 0
        if self._depth > 1:
            raise CorpusError(f"{self._source.name} is a damaged workbook: texts in texts. Save it again.")

    def _add(self, text: str) -> None:
        self._length += len(text.encode())

    def _end(self, tag: str) -> None:
        if tag.rpartition(":")[2] != "si":
            return
        if self._count == len(self._lengths):
            self._lengths.append(0)
        self._lengths[self._count] = max(self._lengths[self._count], self._length)
        self._count, self._depth = self._count + 1, 0


class _Cells(XmlReader):
    """Adds up the shared texts that the cells of a sheet name."""

    def __init__(self, source: Source, shared: SharedTexts) -> None:
        super().__init__(source, self._start, self._end, self._add)
        self._shared, self._is_shared, self._number, self.size = shared, False, "", 0

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rpartition(":")[2]
        if kind == "c":
            self._is_shared = attributes.get("t") == "s"
        elif kind == "v":
            self._number = ""

    def _add(self, text: str) -> None:
        self._number = (self._number + text)[:64]

    def _end(self, tag: str) -> None:
        if self._is_shared and tag.rpartition(":")[2] == "v":
            self.size += self._shared.length(self._number)
            self._number = ""
