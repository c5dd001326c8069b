"""Text files of unknown encoding, plain or packed, read as a stream that keeps within bounds.

A file is never in memory whole: it is passed over once to learn its encoding and that all of it can be read, and
then read line by line. A preview passes over its beginning and a few samples instead.
"""

from __future__ import annotations

import codecs
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

from hydralora import limits
from hydralora.corpus.encodings import (
    ENCODINGS,
    Guess,
    declared_encoding,
    evident_encoding,
    guessed_encodings,
    known_encoding,
    mended,
    mojibake,
)
from hydralora.corpus.packing import PIECE, opened, packing_of, pieces_of
from hydralora.corpus.reading import ReadOptions, Source
from hydralora.errors import CorpusError

SAMPLE = 4096  # bytes that tell text from something else
HEAD = 2**18  # bytes of the beginning that a preview looks at
SAMPLES, SAMPLE_BYTES = 8, 2**14  # that it looks at further on
GUESSED_FROM = 2**16  # bytes, from lines all over the file, that an encoding is guessed from
TRIED = 4  # guesses
KINDS_COUNTED = 1000  # different garbled places that are told apart


class TextFile:
    """A text file that has been passed over once: ``encoding``, ``size`` (bytes unpacked) and its lines.

    Raises:
        CorpusError: When it is binary, blank, damaged, too large, or in no encoding that is known.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.name = source, source.name
        self.size = 0
        self.garbled: Counter[str] = Counter()  # places that were once read in a wrong encoding
        self.guess = self._find_encoding()

    @property
    def encoding(self) -> str:
        """As Python calls it."""
        return self.guess.encoding

    @property
    def options(self) -> ReadOptions:
        """What the reader was told."""
        return self.source.options

    def open(self, newline: str | None = None) -> TextIO:
        """The text as a stream; ``newline`` as for the built-in ``open``."""
        return io.TextIOWrapper(opened(self.source), encoding=self.encoding, newline=newline)

    def head(self, characters: int) -> str:
        """The first characters, line ends as they are."""
        with self.open(newline="") as stream:
            return stream.read(characters)

    def read(self) -> str:
        """The whole text. Look at ``size`` first."""
        with self.open(newline="") as stream:
            return stream.read()

    def lines(self, newline: str | None = None) -> Iterator[tuple[int, str | LongRow]]:
        """Every line with its number (1-based); in the place of one that is too long, what to say of it."""
        with self.open(newline) as stream:
            lines = Lines(stream, self.name)
            while True:
                lines.begin_row()
                try:
                    line: str | LongRow = next(lines)
                except StopIteration:
                    return
                except LongRow as long:
                    line = long
                yield lines.number, line

    def details(self) -> dict[str, str]:
        """What to tell of its encoding: the name, the reason, whether it is sure, and what looks garbled."""
        told = {"encoding": self.encoding, "encoding_reason": self.guess.reason}
        told["encoding_sure"] = "yes" if self.guess.is_sure else "no"
        if self.garbled:
            part = max(self.garbled, key=lambda place: self.garbled[place])
            told["mojibake"] = (
                f"{self.garbled.total():,} places such as `{part}`, probably `{mended(part)}`: the text was once read "
                "in a wrong encoding and saved so"
            )
        return told

    def _pieces(self) -> Iterator[bytes]:
        """All bytes; for a preview the beginning, and of a file that is not packed a few samples in whole lines."""
        with opened(self.source) as stream:
            if not self.options.head_only:
                yield from pieces_of(stream)
                return
            yield stream.read(HEAD)
        size = self.source.size
        if packing_of(self.source.head(8)) or size <= HEAD:
            return
        with self.source.path.open("rb") as file:
            for number in range(1, SAMPLES + 1):  # the last one is the end of the file
                file.seek(max(HEAD, HEAD + (size - HEAD) * number // SAMPLES - SAMPLE_BYTES))
                piece = file.read(SAMPLE_BYTES).partition(b"\n")[2]
                yield piece.rpartition(b"\n")[0] if number < SAMPLES else piece

    def _find_encoding(self) -> Guess:
        """The encoding that was asked for or is evident, else UTF-8, else the first guess that fits all bytes."""
        sample = next(self._pieces(), b"")[:SAMPLE]
        if packing_of(sample):
            raise CorpusError(f"{self.name} is packed twice. Unpack it once.")
        certain = self._asked() or evident_encoding(sample, self.name)
        utf8 = Guess("utf-8", "all bytes are valid UTF-8")
        failed_at = self._try((certain or utf8).encoding)
        if failed_at is None:
            return certain or self._as_seen(utf8)
        if certain is not None:
            raise CorpusError(
                f"{self.name}: byte {failed_at} does not fit the encoding {certain.encoding}. "
                "Choose another encoding, or save the file as UTF-8."
            )
        if sum(byte < 32 and byte not in (9, 10, 12, 13, 27) for byte in sample) > 0.02 * len(sample):
            raise CorpusError(f"{self.name} looks like a binary file, not text. Save it as text first.")
        declared = declared_encoding(sample)
        for guess in [*filter(None, [declared]), *guessed_encodings(self._strange_lines())[:TRIED]]:
            if self._try(guess.encoding) is None:
                return self._as_seen(guess)
        raise CorpusError(
            f"{self.name}: byte {failed_at} is not UTF-8, and no other encoding gives usual letters. "
            "Say which encoding it has, or save it as UTF-8."
        )

    def _as_seen(self, guess: Guess) -> Guess:
        """A guess, which is not sure where a preview has not seen all bytes."""
        is_packed = packing_of(self.source.head(8)) is not None
        is_whole = self.size < HEAD if is_packed else self.source.size <= HEAD
        if is_whole or not self.options.head_only:
            return guess
        return replace(guess, reason=f"{guess.reason}, as far as a preview looks", is_sure=False)

    def _asked(self) -> Guess | None:
        wanted = self.options.encoding
        if not wanted:
            return None
        if not known_encoding(wanted):
            raise CorpusError(f"The encoding {wanted!r} is not known. Use one such as {', '.join(ENCODINGS[:3])}.")
        return Guess(known_encoding(wanted), "it was chosen")

    def _strange_lines(self) -> bytes:
        """Lines with bytes beyond ASCII from all over the file, about ``GUESSED_FROM`` bytes together."""
        quota = max(2048, GUESSED_FROM * PIECE // max(self.source.size, PIECE))
        kept = bytearray()
        for piece in self._pieces():
            most = len(kept) + quota
            for line in piece.split(b"\n"):
                if not line.isascii():
                    kept += line[: quota * 4] + b"\n"
                if len(kept) > most:
                    break
            if len(kept) > GUESSED_FROM:
                break
        return bytes(kept)

    def _try(self, encoding: str) -> int | None:
        """Decode everything; gives the first byte that does not fit, or None."""
        decoder = codecs.getincrementaldecoder(encoding)()
        is_blank, self.size = True, 0
        self.garbled.clear()
        for piece in self._pieces():
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError as error:
                return self.size - waiting + error.start
            is_blank = is_blank and (not text or text.isspace())
            self.size += len(piece)
            self._count_garbled(text)
        if not self.options.head_only:
            try:
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                return self.size - len(decoder.getstate()[0])
        if is_blank:
            raise CorpusError(f"{self.name} holds only blank space. Choose a file with rows.")
        return None

    def _count_garbled(self, text: str) -> None:
        for place in mojibake(text):
            short = place[:12]
            self.garbled[short if short in self.garbled or len(self.garbled) < KINDS_COUNTED else "Ã"] += 1


class LongRow(ValueError):
    """A line, or a row of several lines, that is longer than is read; ``head`` is its beginning."""

    def __init__(self, head: str) -> None:
        super().__init__(f"it is longer than {limits.MAX_ROW_CHARACTERS:,} characters")
        self.head = head


class Lines:
    """The lines of a stream with their ends, one at a time, none longer than ``MAX_ROW_CHARACTERS``.

    A longer one raises ``LongRow``, once, and is passed over; the next line comes as usual. So does a row of several
    lines, for a reader that says with ``begin_row`` where rows begin.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self.number = 0  # of the line given last, 1-based
        self.characters = self._row_characters = 0

    def begin_row(self) -> None:
        """The next line begins a row."""
        self.characters += self._row_characters
        self._row_characters = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(limits.MAX_ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if self.number > limits.MAX_LINES:
            raise CorpusError(f"{self._name} has more than {limits.MAX_LINES:,} lines. Split it into parts.")
        self._row_characters += len(line)
        if self._row_characters > limits.MAX_ROW_CHARACTERS:
            self._pass_over(line)
            raise LongRow(line[:100])
        return line

    def _pass_over(self, piece: str) -> None:
        """Read on to the end of the line that ``piece`` is of."""
        while piece and not piece.endswith(("\n", "\r")):
            piece = self._stream.readline(PIECE)
