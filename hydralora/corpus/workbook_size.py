"""How much memory a workbook would take, found out before the library lays it out.

A sheet becomes as long and as wide as its first and last cells say, a cell of an ODS as many as it is to be repeated,
and a text that is kept once stands in every cell that names it.
"""

from __future__ import annotations

import re

from hydralora import limits
from hydralora.corpus.reading import Source, shown_name
from hydralora.corpus.workbook_texts import SharedTexts, XmlReader, check_repeated, count_naming
from hydralora.corpus.zip_file import measured_parts, open_zip
from hydralora.errors import CorpusError

CELL = re.compile(rb"\br\s*=\s*[\"']\s*([A-Za-z]{0,3})(\d+)")
# An attribute `r` that the library takes for a place; what is written in another way is counted as missing.
_BEFORE_R = rb"(?:\s+[\w:.\-]+\s*=\s*(?:\"[^\"=<>]*\"|'[^'=<>]*'))*\s+r\s*=\s*[\"']"
STEP = re.compile(
    rb"<(?:[^\s<>/:]*:)?(?:(row)(?=[\s/>])(?:" + _BEFORE_R + rb"(\d{1,9})[\"'])?|"
    rb"c(?=[\s/>])(?!" + _BEFORE_R + rb"[A-Za-z]{1,3}\d+[\"']))|<(/)(?:[^\s<>/:]*:)?row(?=[\s>])"
)
ODD = re.compile(rb"<!|<\?(?!xml\s)|=\s*(?:\"[^\"<]*|'[^'<]*)<")  # what may hold the words of tags and no tags
CELLS = ("table-cell", "covered-table-cell")  # of an ODS
OVERLAP = 256  # bytes that a cell may take, where it lies across two pieces


def measure_xlsx(source: Source) -> None:
    """Add up what the parts unpack to, the cells between the outermost ones, and the texts in them.

    Raises:
        CorpusError: When it is more than may be in memory.
    """
    shared, sheets = SharedTexts(source), []
    with open_zip(source) as archive:
        for item, pieces in measured_parts(archive, source, limits.MAX_SHEET_BYTES):
            sheet, texts = _SheetSize(), shared.part(item.filename)  # any part may be named as a sheet, whatever it is
            for piece in pieces:
                sheet.feed(piece)
                texts.feed(piece)
            _check_cells(sheet.cells, source, item.filename)
            sheets.append((item, sheet.naming))
        shared.check(archive, sheets)


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
        self.naming = 0  # cells that may name a shared text, never fewer than there are

    @property
    def cells(self) -> int:
        """From the first one to the outermost row and column."""
        return self._last_row * max(1, self._last_column + self._most_unplaced)

    def feed(self, piece: bytes) -> None:
        """The next piece of the part."""
        self.naming += count_naming(self._overlap, piece)
        window = self._overlap + piece
        places = set(CELL.findall(window))
        self._last_column = max([self._last_column, *(_column_number(letters) for letters in {p[0] for p in places})])
        self._last_row = max([self._last_row, *(int(digits[:9]) for digits in {p[1] for p in places})])
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
    """Add up what the parts unpack to, and the cells of its tables with their texts, as often as they are repeated.

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
    """Counts the cells of an ODS and the bytes in them as its XML passes by, each as often as it is repeated."""

    def __init__(self, source: Source) -> None:
        self._source, self._reader = source, XmlReader(source, self._start, self._end, self._add)
        self._column = self._width = self._rows = self._skipped = self._repeat = self._widest = 0
        self._alike = self._text = self._texts = self._bytes = 0  # of a cell, of a row, of the sheet

    def feed(self, piece: bytes) -> None:
        """The next piece of ``content.xml``."""
        self._reader.feed(piece)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rpartition(":")[2]
        if kind == "table":
            self._rows = self._skipped = self._widest = self._bytes = 0
        elif kind == "table-row":
            self._column = self._width = self._texts = 0
            self._repeat = _count(attributes, "number-rows-repeated")
        elif kind in CELLS:
            self._alike = _count(attributes, "number-columns-repeated")
            self._column += self._alike
            self._text = sum(len(value) for name, value in attributes.items() if name.endswith("value"))
            if any(name.endswith(":value-type") for name in attributes):
                self._width = self._column
        elif kind == "s":
            self._text += _count(attributes, ":c")  # so many spaces

    def _add(self, text: str) -> None:
        self._text += len(text.encode())

    def _end(self, tag: str) -> None:
        kind = tag.rpartition(":")[2]
        if kind in CELLS:
            self._texts, self._text = self._texts + self._alike * self._text, 0
        if kind != "table-row":
            return
        self._skipped += self._repeat
        self._bytes += self._repeat * self._texts
        if self._width:  # rows without a value count only where one with a value follows
            self._rows, self._skipped = self._rows + self._skipped, 0
            self._widest = max(self._widest, self._width)
        _check_cells(self._rows * self._widest, self._source, "a sheet")
        check_repeated(self._bytes, self._source)


def _count(attributes: dict[str, str], name: str) -> int:
    """The largest number that an attribute of this name tells; 1 where none does."""
    told = [value.removeprefix("+") for key, value in attributes.items() if key.endswith(name)]
    return max((int(value[:12]) for value in told if value.isdecimal()), default=1)
