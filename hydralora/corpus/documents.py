"""Documents (web pages, DOCX, EPUB, PDF) as numbered lines of text and tables, whatever they were written with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hydralora.corpus.header import column_names, is_header
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Row, Table
from hydralora.corpus.text_rows import table_of_lines
from hydralora.errors import CorpusError

LEAST_ROWS, LEAST_COLUMNS = 3, 2  # of what is taken for a table, and not for a way to place things on a page

Cells = list[list[str]]


@dataclass
class Document:
    """The text of a document in order. A heading is a line ``# Heading``; blank lines stand between paragraphs."""

    lines: list[str] = field(default_factory=list)
    tables: list[Cells] = field(default_factory=list)

    def add(self, text: str, level: int = 0) -> None:
        """Add a paragraph, or a heading of a level from 1 on."""
        text = text.strip("\n").rstrip()
        if not text.strip():
            return
        if level:
            text = f"{'#' * min(level, 6)} {' '.join(text.split())}"
        self.lines += [*(f"{line.rstrip()}\n" for line in text.split("\n")), "\n"]

    def add_table(self, cells: Cells) -> None:
        """Add a table, as a table and as lines of text."""
        cells = [row for row in cells if any(cell.strip() for cell in row)]
        self.tables.append(cells)
        self.add("\n".join(" | ".join(" ".join(cell.split()) for cell in row) for row in cells))

    def data(self) -> list[Cells]:
        """The tables that hold most of the document's text in even rows; none where it is mostly text."""
        even = [
            table
            for table in self.tables
            if len(table) >= LEAST_ROWS and len({len(row) for row in table}) == 1 and len(table[0]) >= LEAST_COLUMNS
        ]
        inside = sum(len(cell) for table in even for row in table for cell in row)
        return even if 2 * inside >= sum(map(len, self.lines)) else []


def document_tables(document: Document, source: Source, format: str) -> Iterator[Table]:
    """What to read of a document: its tables where they are what it is about, else its text.

    Raises:
        CorpusError: When it holds no text.
    """
    if not any(line.strip() for line in document.lines):
        raise CorpusError(f"{source.name} holds no text. Choose a document with text.")
    data = [] if source.options.layout else document.data()
    for number, cells in enumerate(data, 1):
        yield _table(cells, f"{source.name}: table {number}", source, format)
    if not data:
        yield table_of_lines(numbered(document.lines), source.options, format, has_headings=True)


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1 on."""
    return enumerate(lines, 1)


def _table(cells: Cells, name: str, source: Source, format: str) -> Table:
    wanted = source.options.header
    has_header = is_header(cells[0], cells[1:]) if wanted is None else wanted
    columns = column_names(cells[0], has_header, name)
    rows = (
        Row(number, dict(zip(columns, (cell.strip("\n") for cell in row), strict=True)))
        for number, row in enumerate(cells, 1)
        if number > has_header
    )
    told = {"layout": "table", "layout_reason": "most of the document's text stands in even tables"}
    return Table(format, rows, columns, told, has_header, name)
