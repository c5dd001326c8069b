"""What a file is, by what is in it: which text format, or which kind of file that holds no texts for training."""

from __future__ import annotations

import csv
import io
import json
import re

from hydralora.corpus.dialect import find_dialect
from hydralora.corpus.header import is_header
from hydralora.corpus.json_rows import DECODER
from hydralora.corpus.reading import Source
from hydralora.corpus.text_file import TextFile
from hydralora.errors import CorpusError

SNIFFED = 65_536  # characters
SPACE = re.compile(r"\s*")
PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body|table)\b", re.IGNORECASE)
BEGINS_JSON = re.compile(r"\s*(?:\[\s*)?[{\[]\s*[\"\[{]")
TEXT_TABLES = ("CSV", "TSV")
# What people also upload by mistake or hope, with what to give instead.
FOREIGN = (
    (b"\x89PNG", "a picture", "Give the text itself"),
    (b"\xff\xd8\xff", "a picture", "Give the text itself"),
    (b"GIF8", "a picture", "Give the text itself"),
    (b"{\\rtf", "an RTF document", "Save it as DOCX or as plain text"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Pack it as ZIP"),
    (b"Rar!\x1a\x07", "a RAR archive", "Pack it as ZIP"),
    (b"SQLite format 3\x00", "a database", "Export its table as CSV"),
    (b"GGUF", "the weights of a model", "Import them on the page of bases"),
    (b"\x93NUMPY", "an array of numbers", "Give the texts as CSV or JSONL"),
    (b"\x7fELF", "a program", "Give the text itself"),
    (b"MZ\x90", "a program", "Give the text itself"),
    (b"\x00\x00\x00\x18ftyp", "a film", "Give the text itself"),
    (b"ID3", "a sound", "Give the text itself"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")


def refuse_foreign(source: Source, head: bytes) -> None:
    """Refuse what begins like a kind of file that is not read.

    Raises:
        CorpusError: Naming the kind and what to give instead.
    """
    for magic, kind, instead in FOREIGN:
        if head.startswith(magic):
            raise CorpusError(f"{source.name} is {kind}. {instead}.")
    if PICKLE.match(head):
        raise CorpusError(
            f"{source.name} looks like a binary file, not text: a pickle, which is never read, since it can run code. "
            "Save the rows as JSONL or Parquet."
        )


def looks_like(file: TextFile, named: str) -> tuple[str, str]:
    """The text format that the contents speak for, with the reason; empty where the name may decide.

    Args:
        named: The format that the file's name speaks for, or nothing.
    """
    head = file.head(SNIFFED)
    if named not in ("JSON", "JSONL") and _is_json(head, is_named=named in TEXT_TABLES):
        return "JSON", "it begins with a JSON value"
    if named not in ("JSON", "JSONL", "Markdown", *TEXT_TABLES) and _begins_page(head):
        return "HTML", "it begins like a web page"
    begins = head.lstrip("\ufeff \t\r\n")[:1]
    if named in ("", "TXT") or (named in ("JSON", "JSONL") and begins not in "[{" and not _is_value(head)):
        if delimiter := _table_delimiter(head):
            return "CSV", f"its rows have the same number of fields between {delimiter}"
    return "", ""


def _begins_page(head: str) -> bool:
    """Whether the first element of a text is one of a web page; an XML declaration and comments may go before."""
    place = SPACE.match(head).end()  # type: ignore[union-attr]
    for begin, end in (("<?xml", ">"), *[("<!--", "-->")] * head.count("<!--")):
        if head.startswith(begin, place):
            if (close := head.find(end, place)) < 0:
                return False
            place = SPACE.match(head, close + len(end)).end()  # type: ignore[union-attr]
    return PAGE.match(head, place) is not None


def _is_json(head: str, *, is_named: bool) -> bool:
    """Whether a text begins with an object or a list of rows; a table whose first cell does is none."""
    if not BEGINS_JSON.match(head):
        return False
    start = head.lstrip()
    if start.startswith("[") and not is_named:
        start = start[1:].lstrip()
    try:
        value, end = DECODER.raw_decode(start)
    except (ValueError, RecursionError):
        return False
    is_alone = start[end:].lstrip(" \t")[:1] in ("", "\r", "\n", ",", "]", "{")
    return isinstance(value, (dict, list)) and is_alone and not (is_named and start[end : end + 1] == ",")


def _is_value(head: str) -> bool:
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return False
    return True


def _table_delimiter(head: str) -> str:
    """What separates the fields where a text without a telling name is clearly a table; empty where it may be prose."""
    whole = head[: head.rfind("\n") + 1] if len(head) == SNIFFED else head
    dialect = find_dialect(whole)
    lines = whole.splitlines(keepends=True)[dialect.skipped :]
    try:
        rows = [row for row in dialect.reader(io.StringIO("".join(lines[:60]), newline="")) if row]
    except csv.Error:
        return ""
    if not rows:
        return ""
    least = 2 if dialect.delimiter == "\t" or len(rows[0]) > 2 else 4
    if dialect.score < 0.85 or len(rows) < least:
        return ""
    is_table = dialect.delimiter == "\t" or is_header(rows[0], rows[1:])
    return {"\t": "tabs"}.get(dialect.delimiter, f"`{dialect.delimiter}`") if is_table else ""
