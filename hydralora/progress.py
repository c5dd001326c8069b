"""How a long function says how far it is, and how it is asked to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hydralora.errors import StoppedError


def _silent(share: float, text: str) -> None:
    """Told to nobody."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Progress:
    """What a caller hands to a long function.

    Args:
        report: Called with the share done, 0 to 1, and what is being done.
        should_stop: Asked now and then; True ends the work at the next safe place.
    """

    report: Callable[[float, str], None] = _silent
    should_stop: Callable[[], bool] = _never

    def check(self, what: str = "The analysis") -> None:
        """End here where a stop was asked for.

        Raises:
            StoppedError: When ``should_stop`` says so; ``what`` begins its sentence.
        """
        if self.should_stop():
            raise StoppedError(f"{what} was stopped; nothing was kept.")

    def step(self, share: float, text: str, what: str = "The analysis") -> None:
        """Report, unless a stop was asked for.

        Raises:
            StoppedError: When ``should_stop`` says so.
        """
        self.check(what)
        self.report(share, text)

    def part(self, begin: float, end: float, prefix: str = "") -> Progress:
        """The progress of a part of the work: its shares 0 to 1 lie between ``begin`` and ``end`` of the whole."""

        def report(share: float, text: str) -> None:
            self.report(begin + (end - begin) * share, prefix + text)

        return Progress(report, self.should_stop)


SILENT = Progress()  # reports to nobody, never stops
