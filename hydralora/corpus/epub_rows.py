"""Rows of EPUB books: the text of their chapters in reading order, below headings."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hydralora import limits
from hydralora.corpus.documents import Document, document_tables
from hydralora.corpus.html_rows import add_page
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Table
from hydralora.corpus.zip_file import open_zip, read_member, zip_kind
from hydralora.errors import CorpusError, first_line

CONTAINER = "META-INF/container.xml"
LOCKED = "META-INF/encryption.xml"
FONTS = (b"idpf.org/2008/embedding", b"ns.adobe.com/pdf/enc#RC")  # fonts may be locked, texts not


def is_epub(source: Source, head: bytes) -> bool:
    """Whether a file is an EPUB."""
    return zip_kind(source, head) == "epub"


def open_epub(source: Source) -> Iterator[Table]:
    """The text of ``source``.

    Raises:
        CorpusError: When it is damaged, protected, too large or holds no text.
    """
    document = Document()
    size, most = 0, source.most_unpacked()
    with open_zip(source) as archive:
        _refuse_locked(archive, source)
        for count, name in enumerate(_chapters(archive, source)):
            if count >= limits.MAX_CHAPTERS:
                raise CorpusError(
                    f"{source.name} names more than {limits.MAX_CHAPTERS:,} chapters; no more are read. Split it."
                )
            page = read_member(archive, name, source)
            size += len(page)
            if size > min(most, 4 * limits.MAX_DOCUMENT_BYTES):
                raise source.too_large(min(most, 4 * limits.MAX_DOCUMENT_BYTES))
            add_page(document, page.decode("utf-8", "replace"), source.name)
    yield from document_tables(Document(document.lines), source, "epub")


def _refuse_locked(archive: zipfile.ZipFile, source: Source) -> None:
    if LOCKED not in archive.namelist():
        return
    said = read_member(archive, LOCKED, source)
    if sum(said.count(font) for font in FONTS) < said.count(b"EncryptionMethod"):
        raise CorpusError(f"{source.name} is protected against copying. Give a book without such protection.")


def _chapters(archive: zipfile.ZipFile, source: Source) -> Iterator[str]:
    """The names of the chapters in reading order."""
    root = _parsed(read_member(archive, CONTAINER, source), source)
    package = next((item.get("full-path", "") for item in root.iter() if item.tag.endswith("}rootfile")), "")
    book = _parsed(read_member(archive, package, source), source)
    files = {item.get("id"): item for item in book.iter() if item.tag.endswith("}item")}
    for reference in (item for item in book.iter() if item.tag.endswith("}itemref")):
        item = files.get(reference.get("idref"))
        if item is not None and "html" in item.get("media-type", "html"):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href", ""))))


def _parsed(data: bytes, source: Source) -> Element:
    try:
        root: Element = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise CorpusError(f"{source.name} is a damaged EPUB file: {first_line(error)}. Save it again.") from error
    return root
