"""Who asks: a name that the web process gives to each visitor, so that jobs of several take fair turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NOBODY = ""  # the command line, and what the studio does by itself
_current: ContextVar[str] = ContextVar("visitor", default=NOBODY)


def current_visitor() -> str:
    """The visitor that the running code works for."""
    return _current.get()


@contextmanager
def on_behalf_of(visitor: str) -> Iterator[None]:
    """Work for ``visitor`` until the block ends."""
    token = _current.set(visitor)
    try:
        yield
    finally:
        _current.reset(token)
