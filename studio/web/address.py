"""Where a running studio is reached: printed at its start, and kept in its home for the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from hydralora.errors import UserError
from jobs.home import Home
from studio.web.door import Door


@dataclass(frozen=True)
class Address:
    """An address of the studio, with the token where there is one.

    Args:
        url: Where it listens, such as ``http://127.0.0.1:7860``.
        token: What opens it; empty where a password does, or nothing is asked for.
        pid: The process that listens.
    """

    url: str
    token: str
    pid: int

    @classmethod
    def of(cls, host: str, port: int, door: Door) -> Address:
        """The address of this process."""
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        token = "" if door.is_open or door.is_password else door.secret or ""
        return cls(f"http://{name}:{port}", token, os.getpid())

    @property
    def link(self) -> str:
        """What is opened in a browser."""
        return f"{self.url}/?token={quote(self.token)}" if self.token else self.url

    @contextmanager
    def kept(self, home: Home) -> Iterator[None]:
        """Keep it in the home, readable by its owner only, while the studio runs."""
        path = _file(home)
        aside = path.with_name(f"{path.name}.{self.pid}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        os.replace(aside, path)
        try:
            yield
        finally:
            if (kept := _read(path)) is not None and kept.pid == self.pid:
                path.unlink(missing_ok=True)


def running_address(home: Home) -> Address:
    """The address of the studio that runs over this home.

    Raises:
        UserError: When none does.
    """
    kept = _read(_file(home))
    if kept is None or not psutil.pid_exists(kept.pid):
        raise UserError(f"No studio runs over {home.root}. Start one: python app.py --home {home.root}")
    return kept


def _file(home: Home) -> Path:
    return home.server / "studio.json"


def _read(path: Path) -> Address | None:
    try:
        return Address(**json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # none runs, or it was killed while it wrote
