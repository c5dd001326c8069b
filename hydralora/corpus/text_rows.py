"""Rows of text, from a text file or a document: paragraphs, lines, blocks, questions with answers, or sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from hydralora import limits
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_file import LongRow, TextFile
from hydralora.corpus.text_layout import SAMPLE_LINES, SEPARATOR, Laid, guess_layout, match_speaker, speakers_of

CHUNK_CHARACTERS = 1_200  # plain text is cut near this length, at paragraph ends
HEADING = re.compile(r"(#{1,6})[ \t]")
FENCE = re.compile(r"[ \t]*(```|~~~)")

Line = tuple[int, str | LongRow]
Rows = Iterator[Row | Rejected]


def open_text(file: TextFile) -> Table:
    """The text in ``file`` as a table with the column ``text``, or with ``prompt`` and ``answer``."""
    return table_of_lines(file.lines(), file.options, "text")


def open_markdown(file: TextFile) -> Table:
    """The sections of the Markdown in ``file``, each with the headings above it."""
    return table_of_lines(file.lines(), file.options, "markdown", has_headings=True)


def table_of_lines(lines: Iterator[Line], options: ReadOptions, format: str, *, has_headings: bool = False) -> Table:
    """Numbered lines, with their ends, as a table in the layout that was chosen or that they seem to have."""
    sample = list(islice(lines, SAMPLE_LINES))
    laid = _layout([line for _, line in sample if isinstance(line, str)], options, has_headings)
    told = {"layout": laid.layout, "layout_reason": laid.reason}
    every = chain(sample, lines)
    if laid.layout == "questions":
        return Table(format, _question_rows(every, laid), ["prompt", "answer"], told)
    if laid.layout == "document" and has_headings:
        return Table(format, _section_rows(every), ["text", "heading"], told)
    reader: dict[str, Callable[[Iterable[Line]], Rows]] = {"lines": _line_rows, "blocks": _block_rows}
    return Table(format, reader.get(laid.layout, _chunks)(every), ["text"], told)


def _layout(sample: list[str], options: ReadOptions, has_headings: bool) -> Laid:
    if options.layout:
        return Laid(options.layout, "it was chosen", speakers_of(sample) if options.layout == "questions" else ("", ""))
    laid = guess_layout(sample)
    if has_headings and laid.layout != "questions":
        return Laid("document", "sections below their headings, long ones cut at paragraph ends")
    return laid


def _too_long(line: int, what: str) -> Rejected:
    most = f"{limits.MAX_CHARACTERS:,}"
    return Rejected(line, f"Row {line}: the {what} is longer than {most} characters. Put blank lines in it.")


def _line_rows(lines: Iterable[Line]) -> Rows:
    """One text on each line."""
    for number, line in lines:
        if isinstance(line, LongRow) or len(line) > limits.MAX_CHARACTERS + 1:
            yield _too_long(number, "line")
        elif line.strip():
            yield Row(number, {"text": line.rstrip("\n")})


def _block_rows(lines: Iterable[Line]) -> Rows:
    """One text between separating lines; between blank ones where the beginning has no separators."""
    walk = iter(lines)
    sample = list(islice(walk, SAMPLE_LINES))
    texts = [line for _, line in sample if isinstance(line, str)]
    is_marked = sum(bool(SEPARATOR.fullmatch(text.rstrip("\n"))) for text in texts) >= 2

    def ends(line: str) -> bool:
        return bool(SEPARATOR.fullmatch(line.rstrip("\n"))) if is_marked else not line.strip(" \t\n")

    for first, block in _parts(chain(sample, walk), ends):
        if block is None:
            yield _too_long(first, "text")
        elif block.strip():
            yield Row(first, {"text": block.strip("\n")})


def _question_rows(lines: Iterable[Line], laid: Laid) -> Rows:
    """A question with its answer; what stands before the first question is passed over where it is blank."""
    question, answer = laid.speakers
    parts: list[list[str]] = []
    start = size = 0
    for number, line in lines:
        if isinstance(line, LongRow):
            size += limits.MAX_CHARACTERS + 1
            continue
        found = match_speaker(line)
        word = found[1].lower() if found else ""
        if word == question and question:
            yield from _pair(start, parts, size)
            parts, start, size = [[]], number, 0
        elif word == answer and len(parts) == 1:
            parts.append([])
        parts = parts or [[]]
        start = start or number
        size += len(line)
        if size <= limits.MAX_CHARACTERS:
            is_mark = found is not None and word in (question, answer)
            parts[-1].append(line[found.end() :] if found is not None and is_mark else line)
    yield from _pair(start, parts, size)


def _pair(start: int, parts: list[list[str]], size: int) -> Rows:
    texts = ["".join(part).strip("\n").rstrip() for part in parts]
    if size > limits.MAX_CHARACTERS:
        yield _too_long(start, "question with its answer")
    elif len(texts) == 2:
        yield Row(start, {"prompt": texts[0], "answer": texts[1]})
    elif any(text.strip() for text in texts):
        yield Rejected(start, f"Row {start}: no answer follows this text. Put the answer's word before it.")


def _chunks(lines: Iterable[Line]) -> Rows:
    """Paragraphs, joined until they reach about ``CHUNK_CHARACTERS``; numbered by first line."""
    chunk: list[str] = []
    size, start = 0, 1
    for line, paragraph in _parts(lines, lambda line: not line.strip(" \t\n")):
        if chunk and (paragraph is None or size + len(paragraph) > CHUNK_CHARACTERS):
            yield Row(start, {"text": "\n\n".join(chunk)})
            chunk, size, start = [], 0, line
        if paragraph is None:
            yield _too_long(line, "paragraph")
        elif paragraph.strip():
            start = start if chunk else line
            chunk.append(paragraph.strip("\n"))
            size += len(paragraph)
    if chunk:
        yield Row(start, {"text": "\n\n".join(chunk)})


def _section_rows(lines: Iterable[Line]) -> Rows:
    """The text below each heading, the heading included, cut where it is long; ``heading`` names those above it."""
    path: list[str] = []
    held: list[Line] = []
    size = 0
    is_code = False
    for number, line in lines:
        is_code ^= isinstance(line, str) and bool(FENCE.match(line))
        found = _heading(line) if isinstance(line, str) and not is_code else None
        if found or size > limits.MAX_CHARACTERS:
            yield from _section(held, path)
            held, size = [], 0
        if found:
            level = found[0] - 1
            path = [*path[:level], *[""] * (level - len(path)), found[1][: limits.MAX_NAME_CHARACTERS]]
        held.append((number, line))
        size += len(line) if isinstance(line, str) else limits.MAX_CHARACTERS
    yield from _section(held, path)


def _heading(line: str) -> tuple[int, str] | None:
    """The level and the words of a heading, without the signs that may close it; None for another line."""
    found = HEADING.match(line)
    words = line[found.end() :].strip(" \t\n") if found else ""
    if not found or not words:
        return None
    bare = words.rstrip("#")
    is_closed = bare != words and bare.endswith((" ", "\t"))  # `C#` ends with its own sign
    return len(found[1]), bare.rstrip(" \t") if is_closed else words


def _section(held: list[Line], path: list[str]) -> Rows:
    """One section; a heading with nothing below it is no text."""
    texts = [line for _, line in held if not isinstance(line, str) or line.strip()]
    if len(texts) == 1 and isinstance(texts[0], str) and _heading(texts[0]):
        return
    heading = " > ".join(filter(None, path))
    for item in _chunks(held):
        yield Row(item.number, {**item.values, "heading": heading}) if isinstance(item, Row) else item


def _parts(lines: Iterable[Line], ends: Callable[[str], bool]) -> Iterator[tuple[int, str | None]]:
    """What stands between the lines that end a part, with the number of its first line.

    None for what is too long to be kept, which is passed over.
    """
    held: list[str] = []
    size = first = 0
    for number, line in lines:
        if isinstance(line, str) and ends(line):
            if first:
                yield first, _join(held, size)
            held, size, first = [], 0, 0
            continue
        first = first or number
        size += limits.MAX_CHARACTERS + 1 if isinstance(line, LongRow) else len(line)
        if isinstance(line, str) and size <= limits.MAX_CHARACTERS + 1:
            held.append(line)
    if first:
        yield first, _join(held, size)


def _join(lines: list[str], size: int) -> str | None:
    return "".join(lines).removesuffix("\n") if size <= limits.MAX_CHARACTERS + 1 else None
