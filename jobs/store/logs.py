"""What an attempt at a job has printed, a page at a time and by words; never more than a bound of it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydralora.errors import UserError
from hydralora.plain import shown, without_paths
from jobs.home import Home
from jobs.store.records import Job

LOG = "log.txt"  # in the folder of an attempt
PAGE = 65_536  # bytes
MOST_FOUND = 200  # lines
LONGEST_LINE = 2_000  # characters that are told of one
LONGEST_WORDS = 200  # characters


@dataclass(frozen=True)
class LogPage:
    """A piece of a log, whole lines where it can be: bytes ``begin`` to ``end`` of ``size``."""

    text: str
    begin: int
    end: int
    size: int
    attempt: int
    attempts: tuple[int, ...]


@dataclass(frozen=True)
class LogLine:
    """A line that was looked for: its number, from 1."""

    number: int
    text: str


def page(home: Home, job: Job, *, before: int | None = None, attempt: int | None = None) -> LogPage:
    """The last piece of a log, or the one that ends at the byte ``before``; of the newest attempt where none is named.

    Raises:
        UserError: When there is no such attempt.
    """
    there, number = attempts_of(home, job), job.attempt if attempt is None else attempt
    path = _path(home, job, number, there)
    size = path.stat().st_size if path.exists() else 0
    end = size if before is None else max(0, min(before, size))
    begin = max(0, end - PAGE)
    if end == 0:
        return LogPage("", 0, 0, size, number, there)
    with path.open("rb") as file:
        file.seek(begin)
        read = file.read(end - begin)
    cut = read.find(b"\n") + 1 if begin else 0  # a line that began before
    return LogPage(_plain(read[cut:]), begin + cut, end, size, number, there)


def search(home: Home, job: Job, words: str, *, attempt: int | None = None) -> list[LogLine]:
    """The last lines of a log that hold some words, capital letters or not.

    Raises:
        UserError: When the words are none or very many, or there is no such attempt.
    """
    wanted = words.strip().casefold()
    if not 0 < len(wanted) <= LONGEST_WORDS:
        raise UserError(f"Give 1 to {LONGEST_WORDS} characters to look for in a log, got {len(wanted):,}.")
    path = _path(home, job, job.attempt if attempt is None else attempt, attempts_of(home, job))
    found = (LogLine(number, line) for number, line in _lines(path) if wanted in line.casefold())
    return list(deque(found, MOST_FOUND))


def size(home: Home, job: Job) -> int:
    """Bytes of the newest attempt's log."""
    path = home.job(job.id, job.attempt) / LOG
    return path.stat().st_size if path.exists() else 0


def attempts_of(home: Home, job: Job) -> tuple[int, ...]:
    """Numbers of the attempts that have left a log, the first one first."""
    return tuple(sorted(int(path.parent.name) for path in home.attempts(job.id).glob(f"*/{LOG}")))


def _path(home: Home, job: Job, attempt: int, there: tuple[int, ...]) -> Path:
    if attempt not in there and attempt != job.attempt:
        raise UserError(
            f"Job {job.id} has no attempt {shown(attempt)} with a log. There are: {shown(there) or 'none'}."
        )
    return home.job(job.id, attempt) / LOG


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        number = 0
        while piece := file.readline(PAGE):  # a line without an end is told in pieces
            number += 1
            yield number, _plain(piece.rstrip(b"\r\n"))[:LONGEST_LINE]


def _plain(read: bytes) -> str:
    return without_paths(read.decode("utf-8", "replace"))
