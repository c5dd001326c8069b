"""Workers as they sign in: which there are, of which version, on which machine."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from jobs.store.changes import WORKER_GONE_SECONDS
from jobs.store.clock import database_now, lately
from jobs.store.rows import Rows
from jobs.store.tables import WorkerRow


class Workers:
    """Signs of life."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def sign_in(
        self, name: str, host: str, process: dict[str, Any], version: str = "", place: dict[str, Any] | None = None
    ) -> None:
        """A worker's sign of life; ``place`` says ``devices``, ``memory`` (bytes) and ``address`` of its machine."""
        row = WorkerRow(name=name, host=host, process=process, version=version, **(place or {}))
        row.seen_at = database_now()
        with self._rows.writing() as session:
            session.merge(row)

    def sign_out(self, name: str) -> None:
        """A worker ends orderly."""
        with self._rows.writing() as session:
            row = session.get(WorkerRow, name)
            if row is not None:
                session.delete(row)

    def seen(self) -> list[dict[str, Any]]:
        """Workers seen lately."""
        columns = ("name", "host", "process", "seen_at", "version", "devices", "memory", "address")
        with self._rows.reading() as session:
            rows = session.scalars(select(WorkerRow).where(lately(WorkerRow.seen_at, WORKER_GONE_SECONDS)))
            return [{column: getattr(row, column) for column in columns} for row in rows]
