"""A lock that is given out in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """First come, first served; ``with turn:`` waits for one's place and holds it.

    ``threading.Lock`` may wake any waiter, so that under steady demand one of them waits for ever.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._held = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()  # whoever leaves hands it over while it stays held

    def __exit__(self, *error: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False

    @property
    def is_held(self) -> bool:
        """Whether somebody has it now."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._waiting)
