"""How much memory a workbook would take, found out before the library lays it out.

A sheet becomes as long and as wide as its first and last cells say, a cell of an ODS as many as it is to be repeated,
and a text that is kept once stands in every cell that names it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.parsers import expat

from hydralora import limits
from hydralora.corpus.reading import Source, mebibytes, shown_name
from hydralora.corpus.zip_file import measured_parts, open_zip
from hydralora.errors import CorpusError

CELL = re.compile(rb"\br\s*=\s*[\"']\s*([A-Za-z]{0,3})(\d+)")
TEXT_OF_CELL = re.compile(rb"<(?:[^\s<>/:]*:)?c(?=\s[^<]*?\bt\s*=\s*[\"']s[\"'])[^<]*>\s*<(?:[^\s<>/:]*:)?v>(\d{1,9})<")
# An attribute `r` that the library takes for a place; what is written in another way is counted as missing.
_BEFORE_R = rb"(?:\s+[\w:.\-]+\s*=\s*(?:\"[^\"=<>]*\"|'[^'=<>]*'))*\s+r\s*=\s*[\"']"
STEP = re.compile(
    rb"<(?:[^\s<>/:]*:)?(?:(row)(?=[\s/>])(?:" + _BEFORE_R + rb"(\d{1,9})[\"'])?|"
    rb"c(?=[\s/>])(?!" + _BEFORE_R + rb"[A-Za-z]{1,3}\d+[\"']))|<(/)(?:[^\s<>/:]*:)?row(?=[\s>])"
)
ODD = re.compile(rb"<!|<\?(?!xml\s)|=\s*(?:\"[^\"<]*|'[^'<]*)<")  # what may hold the words of tags and no tags
END_OF_TEXT = re.compile(rb"</(?:[^\s<>/:]*:)?si>")
TEXTS = "sharedstrings.xml"
OVERLAP = 256  # bytes that a cell may take, where it lies across two pieces


def measure_xlsx(source: Source) -> None:
    """Add up what the parts unpack to, the cells between the outermost ones, and the texts in them.

    Raises:
        CorpusError: When it is more than may be in memory.
    """
    lengths: list[int] = []
    cells: Counter[bytes] = Counter()
    with open_zip(source) as archive:
        for item, pieces in measured_parts(archive, source, limits.MAX_SHEET_BYTES):
            texts, sheet = _Texts(), _SheetSize()  # any part may be named as a sheet, whatever its own name
            for piece in pieces:
                texts.feed(piece)
                sheet.feed(piece, cells)
            _check_cells(sheet.cells, source, item.filename)
            if item.filename.lower().endswith(TEXTS):
                lengths = texts.lengths
    size = sum(lengths[int(text)] * count for text, count in cells.items() if int(text) < len(lengths))
    if size > limits.MAX_SHEET_BYTES:
        raise CorpusError(
            f"{source.name} repeats long texts in so many cells that they take {mebibytes(size)}; at most "
            f"{mebibytes(limits.MAX_SHEET_BYTES)} are read. Save the sheets as CSV."
        )


class _Texts:
    """Bytes of each text that the cells share, as it stands in the file that passes by."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._read = self._end = 0
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """The next piece of the part."""
        window = self._rest + piece
        begin = self._read - len(self._rest)
        for found in END_OF_TEXT.finditer(window):
            if (end := begin + found.end()) > self._read:
                self.lengths.append(end - self._end)
                self._end = end
        self._read, self._rest = self._read + len(piece), piece[-16:]


class _SheetSize:
    """Counts the rows and columns of an XLSX sheet as its XML passes by, as the library will place its cells.

    A cell without a place stands behind the one before it, a row without one below the one before it. Never fewer are
    counted than there will be.
    """

    def __init__(self) -> None:
        self._row, self._last_row, self._last_column = 1, 1, 0
        self._unplaced = self._most_unplaced = 0  # cells without a place, in this row and in any
        self._is_odd = self._has_ended = False
        self._overlap = self._rest = b""

    @property
    def cells(self) -> int:
        """From the first one to the outermost row and column."""
        return self._last_row * max(1, self._last_column + self._most_unplaced)

    def feed(self, piece: bytes, texts: Counter[bytes]) -> None:
        """The next piece of the part; counts in ``texts`` which shared texts its cells name."""
        window = self._overlap + piece
        places = set(CELL.findall(window))
        self._last_column = max([self._last_column, *(_column_number(letters) for letters in {p[0] for p in places})])
        self._last_row = max([self._last_row, *(int(digits[:9]) for digits in {p[1] for p in places})])
        texts.update(TEXT_OF_CELL.findall(window))
        self._overlap = piece[-OVERLAP:]
        window = self._rest + piece
        cut = window.rfind(b"<") if len(self._rest) < len(piece) else len(window)
        cut, self._rest = (cut, window[cut:]) if cut >= 0 else (len(window), b"")
        self._is_odd = self._is_odd or ODD.search(window) is not None
        for found in STEP.finditer(window, 0, cut):
            self._step(found[1], found[2], found[3])

    def _step(self, row: bytes | None, number: bytes | None, end: bytes | None) -> None:
        if end:
            self._row += 1
            self._unplaced = self._unplaced if self._is_odd else 0
        elif row:
            self._row += not (self._has_ended or number or self._last_row == 1)
            self._row = max(self._row, int(number or 0))
        else:
            self._unplaced += 1
            self._most_unplaced = max(self._most_unplaced, self._unplaced)
        self._has_ended = bool(end)
        if not end:
            self._last_row = max(self._last_row, self._row)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def measure_ods(source: Source) -> None:
    """Add up what the parts unpack to, and the cells of its tables as often as they are to be repeated.

    Raises:
        CorpusError: When it is more than may be in memory.
    """
    with open_zip(source) as archive:
        for item, pieces in measured_parts(archive, source, limits.MAX_SHEET_BYTES):
            if item.filename == "content.xml":
                counter = _OdsCells(source)
                for piece in pieces:
                    counter.feed(piece)
            else:
                any(False for _ in pieces)  # read to the end, for its size


def _check_cells(cells: int, source: Source, part: str) -> None:
    if cells > limits.MAX_SHEET_CELLS:
        raise CorpusError(
            f"{source.name}: {shown_name(part)} spreads over {cells:,} cells; at most {limits.MAX_SHEET_CELLS:,} are "
            "read. Delete what lies far from the table, or save it as CSV."
        )


class _OdsCells:
    """Counts the cells of an ODS as its XML passes by, each as often as it is repeated."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = self._refuse_entities
        self._column = self._width = self._rows = self._skipped = self._repeat = self._widest = 0

    def feed(self, piece: bytes) -> None:
        """The next piece of ``content.xml``."""
        try:
            self._parser.Parse(piece)
        except expat.ExpatError as error:
            raise CorpusError(f"{self._source.name} is a damaged workbook: {error}. Save it again.") from error

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rpartition(":")[2]
        if kind == "table":
            self._rows = self._skipped = self._widest = 0
        elif kind == "table-row":
            self._column = self._width = 0
            self._repeat = _count(attributes, "number-rows-repeated")
        elif kind in ("table-cell", "covered-table-cell"):
            self._column += _count(attributes, "number-columns-repeated")
            if any(name.endswith(":value-type") for name in attributes):
                self._width = self._column

    def _end(self, tag: str) -> None:
        if tag.rpartition(":")[2] != "table-row":
            return
        self._skipped += self._repeat
        if self._width:  # rows without a value count only where one with a value follows
            self._rows, self._skipped = self._rows + self._skipped, 0
            self._widest = max(self._widest, self._width)
        _check_cells(self._rows * self._widest, self._source, "a sheet")

    def _refuse_entities(self, *_: Any) -> None:
        raise CorpusError(f"{self._source.name} declares entities of its own, which no workbook needs. Save it again.")


def _count(attributes: dict[str, str], name: str) -> int:
    told = next((value for key, value in attributes.items() if key.endswith(name)), "1")
    return int(told[:9]) if told.isdecimal() else 1
