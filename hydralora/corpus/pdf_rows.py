"""Rows of PDF files: the text of each page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from hydralora import limits
from hydralora.corpus.documents import numbered
from hydralora.corpus.reading import Source
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_layout import SAMPLE_LINES, guess_layout
from hydralora.corpus.text_rows import table_of_lines
from hydralora.errors import CorpusError, first_line

if TYPE_CHECKING:
    from pypdf import PdfReader

MAGIC = b"%PDF-"
LOOKED_AT = 5  # pages with text that tell the layout
logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every oddity of a file


def is_pdf(source: Source, head: bytes) -> bool:
    """Whether a file is a PDF; a few bytes may stand before its mark."""
    return MAGIC in head


def open_pdf(source: Source) -> Iterator[Table]:
    """The text of ``source``, a row for each page, or for each question where it consists of questions and answers.

    Raises:
        CorpusError: When it is protected, damaged, too long, or holds only pictures of pages.
    """
    reader, count = _opened(source)
    pages = _pages(reader, count, source)
    head: list[tuple[int, str]] = []
    for page in pages:
        head.append(page)
        if sum(bool(text.strip()) for _, text in head) == LOOKED_AT:
            break
    if not any(text.strip() for _, text in head):
        raise CorpusError(
            f"{source.name} holds pictures of its {count:,} page{'s' * (count != 1)} and no text. Have its text "
            "recognised (OCR) and give that."
        )
    every = chain(head, pages)
    sample = "\n".join(text for _, text in head).splitlines(keepends=True)[:SAMPLE_LINES]
    laid = guess_layout(sample)
    if source.options.layout or laid.layout == "questions":
        lines = numbered(f"{line}\n" for _, text in every for line in [*text.splitlines(), ""])
        yield table_of_lines(lines, source.options, "pdf")
        return
    told = {"layout": "pages", "layout_reason": "the text of each page", "pages": str(count)}
    yield Table("pdf", _page_rows(every), ["text"], told)


def _opened(source: Source) -> tuple[PdfReader, int]:
    from pypdf import PdfReader  # 22 MB of memory that only a job with a PDF needs
    from pypdf.errors import DependencyError, FileNotDecryptedError

    try:
        reader = PdfReader(source.path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise CorpusError(f"{source.name} is protected by a password. Save it without one.")
        count = len(reader.pages)
    except CorpusError:
        raise
    except (FileNotDecryptedError, DependencyError) as error:
        raise CorpusError(f"{source.name} is protected by a password. Save it without one.") from error
    except MemoryError:
        raise
    except Exception as error:  # a parser of hostile files fails in any way
        raise CorpusError(f"{source.name} is a damaged PDF file: {first_line(error)}. Save it again.") from error
    if not 0 < count <= limits.MAX_PAGES:
        raise CorpusError(f"{source.name} has {count:,} pages; from 1 to {limits.MAX_PAGES:,} are read. Split it.")
    return reader, count


def _pages(reader: PdfReader, count: int, source: Source) -> Iterator[tuple[int, str]]:
    """The text of every page with its number; together they keep within the bounds of a text."""
    size, most = 0, source.most_unpacked()
    for number in range(count):
        try:
            text = reader.pages[number].extract_text()
        except MemoryError:
            raise
        except Exception as error:  # a parser of hostile files fails in any way
            raise CorpusError(
                f"{source.name}: page {number + 1} cannot be read: {first_line(error)}. Save the file again."
            ) from error
        size += len(text)
        if size > most:
            raise source.too_large(most)
        yield number + 1, text.replace("\x00", "")


def _page_rows(pages: Iterator[tuple[int, str]]) -> Iterator[Row | Rejected]:
    for number, text in pages:
        if len(text) > limits.MAX_CHARACTERS:
            yield Rejected(number, f"Page {number} holds {len(text):,} characters. Give its text as TXT.")
        elif text.strip():
            yield Row(number, {"text": text.strip("\n")})
        else:
            yield Rejected(number, f"Page {number} holds no text, perhaps a picture of it.")
