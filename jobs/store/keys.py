"""Keys of the endpoint: named, kept as hashes only; and whether the endpoint is switched on."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import func, select

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.store.rows import Rows, clean_name
from jobs.store.settings import Settings
from jobs.store.tables import KeyRow

BEGINNING = "hydra-"  # of every key, so that one is known where it is found
KEY_BYTES = 32  # of randomness in a key: nobody guesses one, so a plain hash is enough
LONGEST_KEY = 200  # characters of what is looked up
MOST_KEYS = 100
USED_SECONDS = 60.0  # between two notes that a key was used
ENDPOINT = "endpoint"  # the setting that says whether it is on


@dataclass(frozen=True)
class Key:
    """A key without its secret; ``ending`` is its last four characters."""

    id: int
    name: str
    ending: str
    created_at: float
    used_at: float | None


class Keys:
    """All reads and writes of keys, and the switch of the endpoint that they open."""

    def __init__(self, rows: Rows, settings: Settings) -> None:
        self._rows, self._settings = rows, settings

    @property
    def is_on(self) -> bool:
        """Whether the studio answers at ``/v1``; off until somebody switches it on."""
        return bool((self._settings.get(ENDPOINT) or {}).get("is_on", False))

    def switch(self, on: bool) -> None:
        """Switch the endpoint on or off, for good."""
        self._settings.set(ENDPOINT, {"is_on": on})

    def all(self) -> list[Key]:
        """Keys that are valid, the oldest first."""
        with self._rows.reading() as session:
            return [_copy(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.id))]

    def create(self, name: str) -> tuple[Key, str]:
        """A new key and its secret, which is told here and never again.

        Raises:
            UserError: When the name is empty or taken, or there are ``MOST_KEYS`` already.
        """
        name, secret = clean_name(name), BEGINNING + secrets.token_urlsafe(KEY_BYTES)
        with self._rows.writing() as session:
            if session.scalar(select(KeyRow.id).where(KeyRow.name == name)):
                raise UserError(
                    f"There is a key called {shown(name)} already. Choose another name, or revoke it first."
                )
            if (session.scalar(select(func.count()).select_from(KeyRow)) or 0) >= MOST_KEYS:
                raise UserError(f"There are {MOST_KEYS} keys already, the most that are kept. Revoke one first.")
            row = KeyRow(name=name, digest=_digest(secret), ending=secret[-4:])
            session.add(row)
            session.flush()
            return _copy(row), secret

    def revoke(self, name: str) -> Key:
        """Make a key open nothing any more.

        Raises:
            UserError: When there is none of this name.
        """
        with self._rows.writing() as session:
            row = session.scalar(select(KeyRow).where(KeyRow.name == name))
            if row is None:
                raise UserError(f"There is no key called {shown(name)}. `python -m studio keys list` names them.")
            found = _copy(row)
            session.delete(row)
        return found

    def find(self, secret: str) -> Key | None:
        """The key of this secret, or None; that it was used is noted, once a minute at most."""
        if not secret.startswith(BEGINNING) or len(secret) > LONGEST_KEY:
            return None
        with self._rows.reading() as session:
            row = session.scalar(select(KeyRow).where(KeyRow.digest == _digest(secret)))
            found = _copy(row) if row else None
        if found is not None and time.time() - (found.used_at or 0.0) > USED_SECONDS:
            with self._rows.writing() as session:
                row = session.get(KeyRow, found.id)
                if row is not None:
                    row.used_at = time.time()
        return found


def _digest(secret: str) -> str:
    """SHA-256 as 64 hex digits: what is looked up tells nothing of the secret, nor does the time it takes."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _copy(row: KeyRow) -> Key:
    return Key(row.id, row.name, row.ending, row.created_at, row.used_at)
