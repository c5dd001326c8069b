"""What the studio remembers about itself: a dismissed tour, a measured speed."""

from __future__ import annotations

from typing import Any

from jobs.store.rows import Rows
from jobs.store.tables import SettingRow


class Settings:
    """Values by key."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def get(self, key: str) -> dict[str, Any] | None:
        """A remembered value, or None."""
        with self._rows.reading() as session:
            row = session.get(SettingRow, key)
            return dict(row.value) if row else None

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Remember a value in place of an earlier one."""
        with self._rows.writing() as session:
            session.merge(SettingRow(key=key, value=value))
