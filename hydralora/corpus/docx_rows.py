"""Rows of Word documents (DOCX): their text below headings, or their tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hydralora.corpus.documents import Document, document_tables
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Table
from hydralora.corpus.zip_file import open_zip, read_member, zip_kind
from hydralora.errors import CorpusError, first_line

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
PASSED_OVER = ("del", "moveFrom", "Fallback", "instrText", "delText")  # what was deleted, or stands there twice


def is_docx(source: Source, head: bytes) -> bool:
    """Whether a file is a DOCX."""
    return zip_kind(source, head) == "docx"


def open_docx(source: Source) -> Iterator[Table]:
    """The text of ``source``, or its tables.

    Raises:
        CorpusError: When it is damaged or holds no text.
    """
    with open_zip(source) as archive:
        body = _parsed(read_member(archive, "word/document.xml", source), source)
        has_styles = "word/styles.xml" in archive.namelist()
        styles = _parsed(read_member(archive, "word/styles.xml", source), source) if has_styles else None
    levels = _heading_levels(styles) if styles is not None else {}
    document = Document()
    for block in _blocks(body):
        if _name(block) == "tbl":
            document.add_table(_cells(block))
        else:
            document.add(_text(block), levels.get(_style(block), 0))
    yield from document_tables(document, source, "docx")


def _parsed(data: bytes, source: Source) -> Element:
    try:
        root: Element = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise CorpusError(f"{source.name} is a damaged DOCX file: {first_line(error)}. Save it again.") from error
    return root


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _value(element: Element | None) -> str:
    """The ``w:val`` of an element."""
    return (
        next((text for key, text in element.attrib.items() if key.endswith("}val")), "") if element is not None else ""
    )


def _blocks(root: Element) -> Iterator[Element]:
    """Paragraphs and tables in order; those inside of a table belong to it."""
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if _name(element) in ("p", "tbl"):
            yield element
        elif _name(element) not in PASSED_OVER:
            waiting += reversed(element)


def _text(block: Element) -> str:
    """The text of a paragraph, or of all paragraphs in a cell."""
    parts: list[str] = []
    waiting = [block]
    while waiting:
        element = waiting.pop()
        name = _name(element)
        if name in PASSED_OVER:
            continue
        if name == "p" and parts:
            parts.append("\n")
        parts.append((element.text or "") if name == "t" else SIGNS.get(name, "") if len(element) == 0 else "")
        waiting += reversed(element)
    return "".join(parts)


def _cells(table: Element) -> list[list[str]]:
    rows = [element for element in _inside(table, "tr")]
    return [[_text(cell) for cell in _inside(row, "tc")] for row in rows]


def _inside(outer: Element, name: str) -> Iterator[Element]:
    """The elements of a name inside, but not those inside of one of them."""
    waiting = list(reversed(outer))
    while waiting:
        element = waiting.pop()
        if _name(element) == name:
            yield element
        else:
            waiting += reversed(element)


def _style(paragraph: Element) -> str:
    return _value(next(_inside(paragraph, "pStyle"), None))


def _heading_levels(styles: Element) -> dict[str, int]:
    """The level of a heading by the id of its style, whatever language the styles are called in."""
    levels: dict[str, int] = {}
    for style in _inside(styles, "style"):
        name = _value(next(_inside(style, "name"), None)).lower()
        found = re.fullmatch(r"heading ([1-6])", name)
        if found or name == "title":
            key = next((text for attribute, text in style.attrib.items() if attribute.endswith("}styleId")), "")
            levels[key] = int(found[1]) if found else 1
    return levels
