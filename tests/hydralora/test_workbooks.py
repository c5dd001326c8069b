"""Workbooks become tables as their sheets show them; what would not fit in memory is refused before it is opened."""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hydralora import limits
from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Row, Table
from hydralora.corpus.workbook_rows import OLE, _shown
from hydralora.errors import CorpusError
from tests.hydralora.office import Cell, ods, pack, xlsx

FAQ: list[list[Cell]] = [
    ["Ticket", "Customer question", "What we reply"],
    [17, "Wo ist die Leiter?", "In Halle 3,\nneben dem Fenster."],
    [18, "Und die Lampe?", "  Eingerückt bleibt eingerückt."],
]
AS_TEXT = [
    {"Ticket": "17", "Customer question": "Wo ist die Leiter?", "What we reply": "In Halle 3,\nneben dem Fenster."},
    {"Ticket": "18", "Customer question": "Und die Lampe?", "What we reply": "  Eingerückt bleibt eingerückt."},
]


def read(path: Path, **options: Any) -> list[tuple[Table, list[dict[str, Any]]]]:
    tables = open_tables(path, ReadOptions(**options))
    return [(table, [row.values for row in table.rows if isinstance(row, Row)]) for table in tables]


@pytest.mark.parametrize("name", ["faq.xlsx", "faq.csv", "faq"])
def test_a_workbook_is_known_by_its_contents_whatever_its_name(name: str, tmp_path: Path) -> None:
    ((table, rows),) = read(xlsx(tmp_path / name, {"FAQ": FAQ}))
    assert (table.format, table.source, rows) == ("xlsx", f"{name}: FAQ", AS_TEXT)


def test_an_ods_gives_the_rows_of_its_sheets(tmp_path: Path) -> None:
    rows = [[cell.replace("\n", " ").strip() if isinstance(cell, str) else cell for cell in row] for row in FAQ]
    ((table, found),) = read(ods(tmp_path / "faq.ods", {"FAQ": rows}))
    assert table.format == "ods" and found[0]["Ticket"] == "17" and found[1]["Customer question"] == "Und die Lampe?"


def test_every_sheet_is_a_table_and_empty_ones_are_counted(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", {"empty": [], "one": FAQ, "two": [["q", "a"], ["x", "y"]]})
    found = read(path)
    assert [table.source for table, _ in found] == ["book.xlsx: one", "book.xlsx: two"]
    assert found[0][0].details["empty_sheets"] == "1"


def test_one_sheet_can_be_chosen_and_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", {"one": FAQ, "two": [["q", "a"], ["x", "y"]]})
    assert [rows for _, rows in read(path, sheet="two")] == [[{"q": "x", "a": "y"}]]
    with pytest.raises(CorpusError, match=r"no sheet 'three'\. It has: one, two"):
        read(path, sheet="three")


def test_a_title_above_the_table_is_not_taken_for_its_header(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", {"FAQ": [["Export of Monday"], [], [None, None], *FAQ]})
    ((table, rows),) = read(path)
    assert rows == AS_TEXT and table.details["rows_skipped"] == "1 above the table"


def test_rows_are_numbered_as_the_sheet_numbers_them(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", {"FAQ": [[], [], *FAQ]})
    (table,) = open_tables(path)
    assert [row.number if isinstance(row, Row) else 0 for row in table.rows] == [4, 5]


def test_a_sheet_without_header_gets_numbered_columns(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "book.xlsx", {"a": [["What is two and two?", "Four."], ["What is one?", "One."]]})
    ((table, rows),) = read(path)
    assert table.columns == ["column 1", "column 2"] and len(rows) == 2


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (3.0, "3"),
        (3.25, "3.25"),
        (True, "TRUE"),
        (dt.datetime(2024, 5, 1), "2024-05-01"),
        (dt.datetime(2024, 5, 1, 8, 30), "2024-05-01 08:30:00"),
        (None, ""),
    ],
)
def test_cells_are_text_as_the_sheet_shows_them(cell: Any, shown: str) -> None:
    assert _shown(cell) == shown


def test_a_protected_workbook_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "secret.xlsx").write_bytes(OLE + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(CorpusError, match=r"secret.xlsx is protected by a password. Save it without one."):
        read(tmp_path / "secret.xlsx")


def test_a_damaged_workbook_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "old.xls").write_bytes(OLE + bytes(range(256)) * 20)
    broken = xlsx(tmp_path / "broken.xlsx", {"a": FAQ}, a="<worksheet><sheetData><row r=")
    for path in (tmp_path / "old.xls", broken):
        with pytest.raises(CorpusError) as error:
            read(path)
        assert path.name in str(error.value) and "\n" not in str(error.value)


def test_two_cells_far_apart_are_refused_before_the_sheet_is_laid_out(tmp_path: Path) -> None:
    far = '<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row><c r="XFD1048576"><v>1</v></c></row>'
    path = xlsx(tmp_path / "far.xlsx", {"a": FAQ}, a=f"{far}</sheetData></worksheet>")
    with pytest.raises(CorpusError, match=r"spreads over 17,179,869,184 cells"):
        read(path)


def test_a_sheet_under_any_name_is_measured(tmp_path: Path) -> None:
    far = '<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row><c r="XFD1048576"><v>1</v></c></row>'
    with zipfile.ZipFile(xlsx(tmp_path / "a.xlsx", {"a": FAQ})) as archive:
        parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    links = "xl/_rels/workbook.xml.rels"
    for name in ("sheet1.dat", "sheet1.png", "sharedStrings.xml"):
        parts[links] = re.sub(rb'worksheets/[^"]+', f"worksheets/{name}".encode(), bytes(parts[links]))  # type: ignore[arg-type]
        with pytest.raises(CorpusError, match=r"spreads over 17,179,869,184 cells"):
            read(pack(tmp_path / "far.xlsx", parts | {f"xl/worksheets/{name}": f"{far}</sheetData></worksheet>"}))


CELL = "<c><v>1</v></c>"
UNPLACED = {  # rows of a sheet, and how many cells they spread over
    "cells": (f'<row r="1048576">{CELL * 1000}</row>', 1_048_576_000),
    "rows": (f'<row r="1"><c r="XFD1"/></row><row r="90000"/>{"<row></row>" * 10}<row>{CELL}</row>', 1_474_830_235),
    "ends of rows": (f'<row r="1"><c r="XFD1"/></row>{"</row>" * 90_000}{CELL}', 1_474_682_770),
    "comments": (f'<row r="1048576">{f"{CELL}<!--</row>-->" * 1000}</row>', 1_049_575_000),
    "a place in another attribute": (
        '<row r="1048576">' + """<c x=" r='A1'"><v>1</v></c>""" * 1000 + "</row>",
        1_049_624_576,
    ),
}


@pytest.mark.parametrize("name", UNPLACED)
def test_rows_and_cells_without_a_place_are_counted_by_their_position(name: str, tmp_path: Path) -> None:
    rows, cells = UNPLACED[name]
    path = xlsx(tmp_path / "far.xlsx", {"a": FAQ}, a=f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
    with pytest.raises(CorpusError, match=rf"spreads over {cells:,} cells"):
        read(path)


def test_cells_without_places_are_read_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SHEET_CELLS", 9)
    rows = f"<row>{CELL * 3}</row>" * 3
    path = xlsx(tmp_path / "a.xlsx", {"a": FAQ}, a=f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
    ((_, found),) = read(path)
    assert len(found) == 3
    monkeypatch.setattr(limits, "MAX_SHEET_CELLS", 8)
    with pytest.raises(CorpusError, match=r"spreads over 9 cells"):
        read(path)


def test_cells_repeated_a_million_times_are_refused_and_blank_ones_are_not(tmp_path: Path) -> None:
    row = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="999"'
    blank, full = f"{row}/></table:table-row>", f'{row} office:value-type="string"/></table:table-row>'
    assert len(read(ods(tmp_path / "blank.ods", {"a": FAQ}, blank))[0][1]) == 2
    with pytest.raises(CorpusError, match=r"spreads over 1,046,954,997 cells"):
        read(ods(tmp_path / "full.ods", {"a": FAQ}, full))


def test_a_long_text_in_very_many_cells_is_refused_before_it_is_copied_into_each(tmp_path: Path) -> None:
    cells = "".join(f'<row r="{i}"><c r="A{i}" t="s"><v>1</v></c></row>' for i in range(1, 10_001))
    path = xlsx(tmp_path / "texts.xlsx", {"a": FAQ}, a=f"<worksheet><sheetData>{cells}</sheetData></worksheet>")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst><si><t>a</t></si><si><t>{'b' * 100_000}</t></si></sst>")
    with pytest.raises(CorpusError, match=r"repeats long texts in so many cells that they take 95\d MiB"):
        read(path)


def test_a_workbook_that_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SHEET_BYTES", 2**20)
    path = xlsx(tmp_path / "bomb.xlsx", {"a": FAQ})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * 2**21)
    with pytest.raises(CorpusError, match=r"larger than 1 MiB"):
        read(path)
