"""Rows of web pages: their text below headings, or their tables; scripts and styles are no text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from hydralora import limits
from hydralora.corpus.documents import Document, document_tables
from hydralora.corpus.reading import mebibytes
from hydralora.corpus.rows import Table
from hydralora.corpus.text_file import TextFile
from hydralora.errors import CorpusError

NO_TEXT = "script, style, noscript, template, svg, math annotation, iframe, object, head, nav, button, select"
# Possessive, as a pattern that may go back remembers every character of a page that is one long tag.
TAG = re.compile(
    r"<!--.*?(?:-->|\Z)|<(/?)([a-zA-Z][a-zA-Z0-9]*+)((?:=\s*+(?:\"[^\"]*+\"|'[^']*+')|[^>=]++|=)*+)", re.DOTALL
)
ATTRIBUTE = re.compile(r"\"[^\"]*+\"|'[^']*+'|[^\s/=\"']++")  # a name or an unquoted value, or what is quoted
UNCLOSED = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li td th tr dt dd option tbody thead "
    "tfoot".split()
)
FORMATS = frozenset("b big code em font i nobr s small strike strong tt u".split())  # an open `a` is closed by the next
MOST_ALIKE = 3  # formatting elements that a parser keeps open, of those with the same attributes
BLOCKS = frozenset(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer form h1 h2 "
    "h3 h4 h5 h6 header hr html legend li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
# Elements inside of which a parser opens the formatting elements again that are open outside.
ANEW = BLOCKS | frozenset("center colgroup dialog dir hgroup listing menu nav optgroup rb rp rt rtc search".split())


def open_html(file: TextFile) -> Iterator[Table]:
    """The text of the page in ``file``, or its tables.

    Raises:
        CorpusError: When it is too large or holds no text.
    """
    if file.size > limits.MAX_DOCUMENT_BYTES:
        raise CorpusError(
            f"{file.name} is one page of {mebibytes(file.size)}; at most {mebibytes(limits.MAX_DOCUMENT_BYTES)} are "
            "read whole. Save its text as TXT, or in parts."
        )
    document = Document()
    add_page(document, file.read(), file.name)
    yield from document_tables(document, file.source, "html")


def add_page(document: Document, page: str, name: str) -> None:
    """Add the paragraphs, headings and tables of a page to a document.

    Raises:
        CorpusError: When its elements are too deep in each other or too many are left open, naming the page.
    """
    if _depth(page) > limits.MAX_PAGE_DEPTH:
        raise CorpusError(
            f"{name} has elements more than {limits.MAX_PAGE_DEPTH:,} deep in each other. Save its text as TXT."
        )
    opened, copied = _open_formats(page)
    if opened > limits.MAX_OPEN_FORMATS:
        raise CorpusError(
            f"{name} leaves more than {limits.MAX_OPEN_FORMATS} formatting elements such as `<b>` open. Close them, or "
            "save its text as TXT."
        )
    if copied > limits.MAX_COPIED_FORMATS:
        raise CorpusError(
            f"{name} leaves formatting elements such as `<b>` open over so many blocks that a parser opens more than "
            f"{limits.MAX_COPIED_FORMATS:,} of them again. Close them, or save its text as TXT."
        )
    if any(_has_many_attributes(page, *found.span(3)) for found in TAG.finditer(page)):
        raise CorpusError(
            f"{name} has an element of more than {limits.MAX_ATTRIBUTES:,} attributes. Save its text as TXT."
        )
    tree = _parsed(page, name)
    for node in tree.css(NO_TEXT):
        node.decompose()
    if tree.root is None:
        return
    _Walk(document).read(tree.root)


def _parsed(page: str, name: str) -> LexborHTMLParser:
    try:
        return LexborHTMLParser(page)
    except SelectolaxError as error:  # it says no more
        raise CorpusError(f"{name} cannot be read as a web page. Save its text as TXT.") from error


def _has_many_attributes(page: str, begin: int, end: int) -> bool:
    """Whether a tag, whose attributes stand there, has more than are read: a parser compares each with all others."""
    if end - begin <= 2 * limits.MAX_ATTRIBUTES:
        return False
    words = (found for found in ATTRIBUTE.finditer(page, begin, end) if page[found.start()] not in "\"'")
    return any(count >= limits.MAX_ATTRIBUTES for count, _ in enumerate(words))


def _depth(page: str) -> int:
    """How deep elements stand in each other at most, those left out that need not be closed."""
    depth = deepest = 0
    for found in TAG.finditer(page):
        if found[2] and found[2].lower() not in UNCLOSED:
            depth = max(0, depth - 1) if found[1] else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _open_formats(page: str) -> tuple[int, int]:
    """How many formatting elements are open at once at most, those left out that a parser takes for one; and how many
    it opens again, at most, in the blocks that begin or end while they are."""
    opened: dict[str, list[str]] = {}
    alike: Counter[tuple[str, str]] = Counter()
    count = most = copied = 0
    for found in TAG.finditer(page):
        name = (found[2] or "").lower()
        if name in ANEW:
            copied += count
        if name not in FORMATS:
            continue
        if not found[1]:
            opened.setdefault(name, []).append(found[3])
            alike[name, found[3]] += 1
            count += alike[name, found[3]] <= MOST_ALIKE
            most = max(most, count)
        elif opened.get(name):
            attributes = opened[name].pop()
            count -= alike[name, attributes] <= MOST_ALIKE
            alike[name, attributes] -= 1
    return most, copied


class _Walk:
    """One walk over the nodes of a page, in order; text in the same block is one paragraph."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._block: dict[int, LexborNode] = {}  # by node, the innermost block around it
        self._texts: list[str] = []
        self._at: int | None = None
        self._tables: set[int] = set()  # nodes inside of tables that were read as such

    def read(self, root: LexborNode) -> None:
        """Add all text below ``root``."""
        for node in root.traverse(include_text=True):
            parent = node.parent
            outer = self._block.get(parent.mem_id) if parent is not None else None
            if parent is not None and parent.mem_id in self._tables:
                self._tables.add(node.mem_id)
                continue
            block = node if node.tag in BLOCKS or outer is None else outer
            self._block[node.mem_id] = block
            if node.tag == "table" and _is_plain(node):
                self._end()
                self._tables.add(node.mem_id)
                self._document.add_table(_cells(node))
            elif node.tag == "br":
                self._texts.append("\n")
            elif node.tag == "-text":
                self._text(node.text(deep=False), block)
        self._end()

    def _text(self, text: str, block: LexborNode) -> None:
        if block.mem_id != self._at:
            self._end()
            self._at = block.mem_id
            self._tag = block.tag or ""
        self._texts.append(text if self._tag == "pre" else re.sub(r"\s+", " ", text))

    def _end(self) -> None:
        """The block ends: what was gathered is a paragraph."""
        if self._texts:
            text = "".join(self._texts)
            if self._tag != "pre":
                text = re.sub(r" *\n *", "\n", re.sub(r"[ \t]+", " ", text)).strip()
            level = int(self._tag[1]) if re.fullmatch(r"h[1-6]", self._tag) else 0
            self._document.add(f"- {text}" if self._tag == "li" and text.strip() else text, level)
        self._texts, self._at = [], None

    _tag = ""


def _is_plain(table: LexborNode) -> bool:
    """A table that holds data and no other table."""
    return len(table.css("table")) <= 1 and len(table.css("tr")) >= 2 and len(table.css("td, th")) >= 4


def _cells(table: LexborNode) -> list[list[str]]:
    return [[cell.text(separator=" ", strip=True) for cell in row.css("td, th")] for row in table.css("tr")]
