"""Rows of workbooks (XLSX, XLS, ODS): every sheet is a table, cells are text as the sheet shows them.

A sheet is held in memory whole, as wide and as long as its first and last cells say. So before the library opens a
workbook its parts are measured, and the places of its cells are looked at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum

from hydralora import limits
from hydralora.corpus.header import LOOKED_AT, column_names, header_place, is_header
from hydralora.corpus.reading import Source, mebibytes, shown_name
from hydralora.corpus.rows import Row, Table
from hydralora.corpus.workbook_size import measure_ods, measure_xlsx
from hydralora.corpus.zip_file import zip_kind
from hydralora.errors import CorpusError, first_line

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of old office files, and of protected new ones
OLE_KINDS = (
    ("EncryptedPackage", "is protected by a password. Save it without one"),
    ("WordDocument", "is a document of an old Word. Save it as DOCX"),
    ("PowerPoint Document", "is a presentation. Give its texts as DOCX or plain text"),
)


def is_workbook(source: Source, head: bytes) -> bool:
    """Whether a file is a workbook, or something else in the container of old ones."""
    return head.startswith(OLE) or zip_kind(source, head) in ("xlsx", "xlsb", "ods")


def open_workbook(source: Source) -> Iterator[Table]:
    """The sheets of ``source``, or the one that was asked for; empty ones are passed over.

    Raises:
        CorpusError: When it is protected, damaged or too large, or has no such sheet.
    """
    with source.path.open("rb") as file:
        kind = zip_kind(source, file.read(8))
    {"xlsx": measure_xlsx, "ods": measure_ods, "xlsb": _refuse_xlsb}.get(kind, _check_ole)(source)
    with _told(source), CalamineWorkbook.from_path(str(source.path)) as book:
        sheets = [sheet.name for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        wanted = source.options.sheet
        if wanted and wanted not in sheets:
            raise CorpusError(f"{source.name} has no sheet {wanted!r}. It has: {', '.join(map(shown_name, sheets))}.")
        yield from _tables(book, [wanted] if wanted else sheets, kind or "xls", source)


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """What the library says of a bad workbook, as a sentence."""
    try:
        yield
    except PasswordError as error:
        raise CorpusError(f"{source.name} is protected by a password. Save it without one.") from error
    except (CalamineError, OSError) as error:
        raise CorpusError(f"{source.name} is a damaged workbook: {first_line(error)}. Save it again.") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what the library's Rust raises beside Python's exceptions
            raise
        raise CorpusError(f"{source.name} is a damaged workbook: {first_line(error)}. Save it again.") from error


def _tables(book: CalamineWorkbook, sheets: list[str], kind: str, source: Source) -> Iterator[Table]:
    empty = 0
    for name in sheets:
        with _told(source):
            sheet = book.get_sheet_by_name(name)
            table = _table(sheet, kind, f"{source.name}: {shown_name(name)}", source)
        if table is None:
            empty += 1
            continue
        table.details |= {"sheet": shown_name(name)} | ({"empty_sheets": str(empty)} if empty else {})
        yield table
    if empty == len(sheets):
        raise CorpusError(f"{source.name} holds no rows in any sheet. Choose a workbook with at least two rows.")


def _table(sheet: CalamineSheet, kind: str, name: str, source: Source) -> Table | None:
    """One sheet; None where it is empty."""
    if sheet.start is None:
        return None
    rows = ((number, [_shown(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(), 1))
    full = ((number, row) for number, row in rows if any(row))
    head = list(islice(full, LOOKED_AT))
    if not head:
        return None
    above = header_place([row for _, row in head])
    first, below = head[above][1], [row for _, row in head[above + 1 :]]
    wanted = source.options.header
    has_header = is_header(first, below) if wanted is None else wanted
    columns = column_names(first, has_header, name)
    unnamed = {i for i, cell in enumerate(first) if has_header and not cell and not any(row[i] for row in below)}

    def read() -> Iterator[Row]:
        yield from (_row(number, row, columns, unnamed) for number, row in head[above + has_header :])
        with _told(source):
            yield from (_row(number, row, columns, unnamed) for number, row in full)

    details = {"rows_skipped": f"{above} above the table"} if above else {}
    kept = [column for i, column in enumerate(columns) if i not in unnamed]
    return Table(kind, read(), kept, details, has_header, name)


def _row(number: int, cells: list[str], columns: list[str], unnamed: set[int]) -> Row:
    return Row(number, {column: cells[i] for i, column in enumerate(columns) if i not in unnamed})


def _shown(cell: Any) -> str:
    """A cell as a sheet shows it: whole numbers without a point, dates without a time where there is none."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, dt.datetime):
        return cell.date().isoformat() if cell.time() == dt.time() else cell.isoformat(" ")
    return "" if cell is None else str(cell)


def _refuse_xlsb(source: Source) -> None:
    raise CorpusError(f"{source.name} is a binary workbook (XLSB). Save it as XLSX.")


def _check_ole(source: Source) -> None:
    """Refuse what else lies in the container of old workbooks, and a workbook too large to be an old one."""
    if source.size > limits.MAX_DOCUMENT_BYTES * 4:
        raise CorpusError(f"{source.name} holds {mebibytes(source.size)}, too much for an XLS. Save it as XLSX or CSV.")
    data = source.path.read_bytes()
    for word, fault in OLE_KINDS:
        if word.encode("utf-16-le") in data:
            raise CorpusError(f"{source.name} {fault}.")
