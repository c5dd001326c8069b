"""What is read and how: a file with the name that messages call it by, and what the reader was told about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from hydralora import limits
from hydralora.errors import CorpusError
from hydralora.results import ImportOptions

Layout = Literal["", "document", "lines", "blocks", "questions"]
NAME_SHOWN = 200  # characters of a name from outside


@dataclass(frozen=True)
class ReadOptions:
    """What is known about a file better than by looking at it; what is left out is guessed.

    Args:
        encoding: Of a text file, as Python calls it (``cp1251``).
        delimiter: Of a table in text, one character.
        header: Whether the first row of a table names its columns.
        layout: How a text is cut: one ``document`` in pieces, one text a line (``lines``), texts between blank or
            separating lines (``blocks``), or marked ``questions`` and answers.
        sheet: The one sheet of a workbook to read, by its name.
        head_only: For a preview: look at the beginning (and at samples), not at every byte, before the first row.
    """

    encoding: str = ""
    delimiter: str = ""
    header: bool | None = None
    layout: Layout = ""
    sheet: str = ""
    head_only: bool = False

    @classmethod
    def of(cls, options: ImportOptions, *, head_only: bool = False) -> ReadOptions:
        """What the options of an import say about reading.

        Raises:
            CorpusError: When the delimiter or the encoding is none.
        """
        names = ("encoding", "delimiter", "header", "layout", "sheet")
        return cls(**{name: getattr(options, name) for name in names}, head_only=head_only)

    def __post_init__(self) -> None:
        if self.delimiter and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise CorpusError(f"The delimiter must be one character, not {self.delimiter!r}. Choose , ; | or a tab.")
        if self.layout not in ("", "document", "lines", "blocks", "questions"):
            raise CorpusError(f"The layout {self.layout!r} is not known. Use document, lines, blocks or questions.")


@dataclass
class Budget:
    """Bytes that the packed members of one archive may unpack to, all of them together, read one after the other."""

    most: int
    _before: int = 0
    _member: int = 0

    def begin_member(self) -> None:
        """What is unpacked from now on belongs to the next member."""
        self._before, self._member = self._before + self._member, 0

    def count(self, size: int, name: str) -> None:
        """Note that ``size`` bytes of a member were unpacked; unpacking it again costs nothing more.

        Raises:
            CorpusError: When all members together are larger than ``most``.
        """
        self._member = max(self._member, size)
        if self._before + self._member > self.most:
            raise CorpusError(
                f"{name} and the packed files before it are larger than {mebibytes(self.most)} unpacked, the limit for "
                "all of them together. Give them unpacked and in parts."
            )


@dataclass(frozen=True)
class Source:
    """A file to read. ``name`` is what messages call it; where it lies may be a temporary place of ours.

    ``is_member`` says that it came out of an archive or folder, in which no other archive is looked into;
    ``budget`` is what such members share where they are packed themselves.
    """

    path: Path
    name: str
    options: ReadOptions = field(default_factory=ReadOptions)
    is_member: bool = False
    budget: Budget | None = None

    @property
    def endings(self) -> list[str]:
        """The endings of its name in lower case, the last one first."""
        return [suffix.lower() for suffix in reversed(PurePosixPath(self.name).suffixes)]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def head(self, count: int) -> bytes:
        """Its first bytes as they lie there."""
        with self.path.open("rb") as file:
            return file.read(count)

    def most_unpacked(self) -> int:
        """Bytes that it may become: ``min(MAX_BYTES, max(RATIO_FLOOR, MAX_RATIO * its size))``."""
        return min(limits.MAX_BYTES, max(limits.RATIO_FLOOR, limits.MAX_RATIO * self.size))

    def too_large(self, most: int) -> CorpusError:
        """What to say where it unpacks to more than ``most`` bytes."""
        return CorpusError(
            f"{self.name} is larger than {mebibytes(most)} unpacked, the limit for a file of its {self.size:,} bytes. "
            "If it is honest, give it unpacked (CSV or JSONL) and in parts."
        )

    def check(self) -> None:
        """Refuse what is no plain file, and what is empty or too large, before any of it is read.

        Raises:
            CorpusError: Naming the file and its size.
        """
        if not self.path.is_file():
            raise CorpusError(f"{self.name} is not a file. Choose a file with rows.")
        if self.size > limits.MAX_BYTES:
            raise CorpusError(
                f"{self.name} holds {mebibytes(self.size)}, more than the {mebibytes(limits.MAX_BYTES)} of one file. "
                "Split it into parts."
            )
        if self.size == 0:
            raise CorpusError(f"{self.name} is empty. Choose a file with at least two rows.")


def mebibytes(size: int) -> str:
    """A size in bytes as whole MiB, or as bytes where it is smaller than one."""
    return f"{size // 2**20:,} MiB" if size >= 2**20 else f"{size:,} bytes"


def shown_name(name: str) -> str:
    """A name from outside as a sentence can hold it: printable and not too long."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= NAME_SHOWN else f"{clean[:NAME_SHOWN]}…"
