"""Small files that a library would make very much of, each written by hand, with what is said of it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.hydralora.office import epub, ods, pack, xlsx

MIB = 2**20
SHARED = "<sst><si><t>a</t></si><si><t>{}</t></si></sst>"
ROW = '<table:table-row table:number-rows-repeated="{}">{}</table:table-row>'
CELL = '<table:table-cell office:value-type="string" table:number-columns-repeated="{}"{}><text:p>{}</text:p>'
CELL += "</table:table-cell>"


def texts(path: Path, cell: str, shared: str, **parts: str) -> None:
    """An XLSX with 40,000 cells that name a shared text each."""
    rows = "".join(f'<row r="{i}">{cell.replace("PLACE", f"A{i}")}</row>' for i in range(1, 40_001))
    whole = xlsx(path, {"a": [["b"]]}, a=f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
    add(whole, {"xl/sharedStrings.xml": shared, **parts})


def add(path: Path, parts: dict[str, str]) -> None:
    """More parts in a zip file, deflated."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def repeated(path: Path, *rows: str) -> None:
    """An ODS with such rows."""
    ods(path, {"a": [["b", "c"]]}, "".join(rows))


def one_batch(path: Path, text: str, *, stream: bool = False) -> None:
    """An Arrow file of one batch with one packed text."""
    batch = pa.record_batch([pa.array([text, "b"]), pa.array(["c", "d"])], names=["prompt", "answer"])
    how = pa.ipc.IpcWriteOptions(compression="zstd")
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, batch.schema, options=how) as out:
        out.write_batch(batch)


def packed_words(path: Path, size: int) -> None:
    """An Arrow file whose dictionary, and not its batch, is packed."""
    words = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array(["a" * size]))
    table = pa.table({"prompt": words, "answer": words})
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
        out.write_table(table)


def rows_of_nothing(path: Path) -> None:
    """An Arrow file of a thousand million rows in some hundred bytes."""
    nothing = pa.StructArray.from_arrays([pa.nulls(2**30)], ["a"])
    table = pa.table({"prompt": nothing, "answer": nothing})
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
        out.write_table(table)


def lying_parquet(path: Path, size: int, pages: int = 1) -> None:
    """A Parquet file whose pages unpack to ``size`` bytes each, while its footer tells of 100 bytes."""
    table = pa.table({"prompt": ["a" * size] * pages, "answer": ["b"] * pages})
    how = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    pq.write_table(table, path, data_page_size=size, write_batch_size=1, **how)
    data, group = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(0)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for said in {group.total_byte_size, group.column(0).total_uncompressed_size}:
        number = bytes(_sevens(2 * said))
        while (place := data.find(number, footer)) >= 0:
            data[place : place + len(number)] = bytes(_sevens(200, len(number)))
    path.write_bytes(data)


def _sevens(number: int, least: int = 1) -> Iterator[int]:
    """A number of seven bits a byte, in ``least`` bytes at least."""
    while number > 127 or least > 1:
        yield number & 127 | 128
        number, least = number >> 7, least - 1
    yield number


def many_chapters(path: Path, count: int) -> None:
    """A book that names one page again and again."""
    book = epub(path, ["<p>a</p>"])
    spine = "<itemref idref='c0'/>" * count
    manifest = "<manifest><item id='c0' href='c%200.xhtml' media-type='application/xhtml+xml'/></manifest>"
    package = f"<package xmlns='http://www.idpf.org/2007/opf'>{manifest}<spine>{spine}</spine></package>"
    pack_again(book, {"book/content.opf": package})


def pack_again(path: Path, parts: dict[str, str]) -> None:
    """The same zip with some parts in the place of others."""
    with zipfile.ZipFile(path) as archive:
        kept: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    pack(path, kept | parts)


ONE = CELL.format(1, "", "b")
NAMING = '<c r="PLACE" t="s"><v>1</v></c>'
LONG = SHARED.format("b" * 50_000)
HIDDEN = SHARED.format(("b" * 400 + "<!--</si>-->") * 125)
MUCH = "so many cells that they take 1,90"
UNPACKED = "MiB unpacked, the limit"

BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "texts.xlsx": (lambda p: texts(p, NAMING, LONG), MUCH),
    "formula.xlsx": (lambda p: texts(p, NAMING.replace("<v>", "<f>A1</f><v>"), LONG), MUCH),
    "spaced.xlsx": (lambda p: texts(p, NAMING.replace(">1<", "> 1 <"), LONG), MUCH),
    "point.xlsx": (lambda p: texts(p, NAMING.replace(">1<", ">1.0<"), LONG), MUCH),
    "second.xlsx": (lambda p: texts(p, NAMING.replace("<v>", "<v>0</v><v>"), LONG), MUCH),
    "quoted.xlsx": (lambda p: texts(p, "<c r='PLACE' x='>' t = 's'><v>1</v></c>", LONG), MUCH),
    "comment.xlsx": (lambda p: texts(p, NAMING, HIDDEN), MUCH),
    "empty.xlsx": (lambda p: texts(p, NAMING, LONG.replace("<si><t>a</t></si>", "<si/>")), MUCH),
    "twice.xlsx": (lambda p: texts(p, NAMING, LONG, **{"z/sharedStrings.xml": SHARED.format("b")}), MUCH),
    "inner.xlsx": (lambda p: texts(p, NAMING, f"<sst><si>{LONG}</si></sst>"), "texts in texts"),
    "text.ods": (lambda p: repeated(p, ROW.format(100_000, CELL.format(9, "", "b" * 50_000))), "they take 42,9"),
    "value.ods": (
        lambda p: repeated(p, ROW.format(100_000, CELL.format(9, f' office:string-value="{"b" * 50_000}"', ""))),
        "they take 42,9",
    ),
    "spaces.ods": (
        lambda p: repeated(p, ROW.format(1, CELL.format(1, "", '<text:s text:c="+900000000"/>'))),
        MUCH[:-4],
    ),
    "plus.ods": (lambda p: repeated(p, ROW.format("+1048576", CELL.format("+900", "", "b"))), "943,71"),
    "said-twice.ods": (
        lambda p: repeated(p, ROW.replace("-row ", '-row x:number-rows-repeated="1" ').format("99999999", ONE)),
        "spreads over",
    ),
    "batch.arrow": (lambda p: one_batch(p, "a" * 100 * MIB), UNPACKED),
    "stream.arrow": (lambda p: one_batch(p, "a" * 100 * MIB, stream=True), UNPACKED),
    "words.arrow": (lambda p: packed_words(p, 100 * MIB), UNPACKED),
    "nothing.arrow": (rows_of_nothing, "has 1,073,741,824 rows or more"),
    "page.parquet": (lambda p: lying_parquet(p, 300 * MIB), "a page of 300 MiB unpacked"),
    "pages.parquet": (lambda p: lying_parquet(p, 30 * MIB, 10), UNPACKED),
    "attributes.html": (
        lambda p: p.write_text(f"<html><p {' '.join(f'a{i}=1' for i in range(300_000))}>b</p>"),
        "an element of more than 1,000 attributes",
    ),
    "tag.html": (lambda p: p.write_text("<html><p>b</p>" + '<a b="' * 4 * MIB), "an element of more than 1,000"),
    "formats.html": (
        lambda p: p.write_text(f"<html>{''.join(f'<p><font size={i}>' for i in range(45))}{'<p>b' * 200_000}"),
        "opens more than 1,000,000 of them again",
    ),
    "chapters.epub": (lambda p: many_chapters(p, 20_000), "names more than 10,000 chapters"),
}
