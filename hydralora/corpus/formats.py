"""Open files of many formats as plain rows, with the rows that could not be read named.

This module knows which format a file has, by what is in it; its name only decides between text formats that look
alike. The formats themselves are in ``csv_rows.py``, ``json_rows.py`` and their neighbours, and what a row means is
for ``roles.py``. Uploaded bytes are hostile: nothing is unpickled, and everything that comes out of a file is bounded
(``limits.py``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydralora.corpus.archives import is_archive, saved_split, unpacked
from hydralora.corpus.arrow_rows import is_arrow, open_arrow
from hydralora.corpus.contents import looks_like, refuse_foreign
from hydralora.corpus.csv_rows import open_csv
from hydralora.corpus.docx_rows import is_docx, open_docx
from hydralora.corpus.epub_rows import is_epub, open_epub
from hydralora.corpus.html_rows import open_html
from hydralora.corpus.json_rows import open_json
from hydralora.corpus.packing import PACKED_ENDINGS, opened, packing_of, pieces_of, write_out
from hydralora.corpus.parquet_rows import is_parquet, open_parquet
from hydralora.corpus.pdf_rows import is_pdf, open_pdf
from hydralora.corpus.reading import ReadOptions, Source
from hydralora.corpus.rows import Row, Table
from hydralora.corpus.text_file import TextFile
from hydralora.corpus.text_rows import open_markdown, open_text
from hydralora.corpus.workbook_rows import is_workbook, open_workbook
from hydralora.errors import CorpusError

HEAD = 1024  # bytes that tell a binary format


@dataclass(frozen=True)
class Format:
    """One format of files.

    Args:
        name: As the page and messages write it.
        endings: Of the files' names, in lower case.
        open_text: Opens a text format, decoded and unpacked already.
        open_file: Opens the tables of a binary format.
        is_it: Whether a file, with its first bytes, is of this binary format.
    """

    name: str
    endings: tuple[str, ...]
    open_text: Callable[[TextFile], Table | Iterator[Table]] | None = None
    open_file: Callable[[Source], Iterator[Table]] | None = None
    is_it: Callable[[Source, bytes], bool] | None = None


FORMATS = (
    Format("CSV", (".csv",), open_csv),
    Format("TSV", (".tsv", ".tab"), open_csv),
    Format("JSONL", (".jsonl", ".ndjson"), open_json),
    Format("JSON", (".json",), open_json),
    Format("Parquet", (".parquet",), open_file=open_parquet, is_it=is_parquet),
    Format("Arrow", (".arrow", ".feather"), open_file=open_arrow, is_it=is_arrow),
    Format("XLSX", (".xlsx", ".xlsm", ".xls"), open_file=open_workbook, is_it=is_workbook),
    Format("ODS", (".ods",), open_file=open_workbook, is_it=is_workbook),
    Format("TXT", (".txt", ".text"), open_text),
    Format("Markdown", (".md", ".markdown"), open_markdown),
    Format("HTML", (".html", ".htm", ".xhtml"), open_html),
    Format("PDF", (".pdf",), open_file=open_pdf, is_it=is_pdf),
    Format("DOCX", (".docx",), open_file=open_docx, is_it=is_docx),
    Format("EPUB", (".epub",), open_file=open_epub, is_it=is_epub),
)
BY_NAME = {known.name: known for known in FORMATS}
BY_ENDING = {ending: known for known in FORMATS for ending in known.endings}
ARCHIVES = (".zip", ".tar", ".tgz")
ENDINGS = (*BY_ENDING, *PACKED_ENDINGS, *ARCHIVES)  # that an upload may have


def known_names() -> str:
    """The names of all formats, as a sentence lists them."""
    names = [known.name for known in FORMATS]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def open_tables(path: Path, options: ReadOptions | None = None) -> Iterator[Table]:
    """The tables in ``path``, opened one after the other: the rows of one are read before the next is asked for.

    Args:
        path: A file, an archive of files, or a folder of files.
        options: What is known better than by looking; the rest is guessed, and said in ``Table.details``.

    Raises:
        CorpusError: When a file is empty, binary, too large, or broken as a whole; single bad rows come as
            ``Rejected`` instead.
    """
    source = Source(path, path.name, options or ReadOptions())
    yield from _open_members(source) if path.is_dir() else _open_file(source)


def _open_file(source: Source) -> Iterator[Table]:
    source.check()
    with _plain(source) as plain:
        head = plain.head(HEAD)
        known = _binary_format(plain, head)
        if is_archive(plain, head):
            tables = _open_members(plain)
        elif known is not None and known.open_file is not None:
            tables = known.open_file(plain)
        else:
            refuse_foreign(plain, head)
            tables = _open_as_text(plain)
        for table in tables:
            table.source = table.source or source.name
            yield table


def _open_members(source: Source) -> Iterator[Table]:
    """The tables of all files in an archive or folder; what was passed over is told with the first one."""
    if source.is_member:
        raise CorpusError(f"{source.name} is an archive inside of an archive. Unpack it and give what is in it.")
    with unpacked(source, ENDINGS) as (contents, sources):
        details = contents.details()
        for member in sources:
            split = saved_split(member)
            for table in _open_file(member):
                table.details |= details
                details = {}
                if split:
                    table.rows = (replace(row, split=split) if isinstance(row, Row) else row for row in table.rows)
                yield table


@contextmanager
def _plain(source: Source) -> Iterator[Source]:
    """The file itself, or, where something binary was packed alone, what is in it for as long as it is read."""
    if packing_of(source.head(HEAD)) is None:
        yield source
        return
    with opened(source) as stream:
        inside = stream.read(HEAD)
    if _binary_format(source, inside) is None and not is_archive(source, inside):
        yield source  # a text is unpacked while it is read
        return
    with tempfile.TemporaryDirectory(prefix="hydra-unpacked-") as folder:
        target = Path(folder) / "file"
        with opened(source) as stream:
            write_out(pieces_of(stream), target, source.name)
        yield replace(source, path=target)


def _binary_format(source: Source, head: bytes) -> Format | None:
    return next((known for known in FORMATS if known.is_it is not None and known.is_it(source, head)), None)


def _open_as_text(source: Source) -> Iterator[Table]:
    """A text file by what it looks like, and by its name where it could be several things."""
    file = TextFile(source)
    named = next((BY_ENDING[e] for e in source.endings if e in BY_ENDING and BY_ENDING[e].open_text), None)
    seen, reason = _chosen(source.options) or looks_like(file, named.name if named else "")
    known = BY_NAME[seen] if seen else named or BY_NAME["TXT"]
    assert known.open_text is not None
    told = reason or (f"its name ends in {known.endings[0]}" if named else "it is text in no other format")
    tables = known.open_text(file)
    for table in iter([tables]) if isinstance(tables, Table) else tables:
        table.details = {**file.details(), "format_reason": told, **table.details}
        yield table


def _chosen(options: ReadOptions) -> tuple[str, str] | None:
    """The format that what was said about a file decides, with the reason: a delimiter is of a table."""
    if options.delimiter:
        return "CSV", "its delimiter was chosen"
    return ("TXT", "its layout was chosen") if options.layout else None
