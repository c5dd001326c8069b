"""The clock of the database: leases and signs of life are told by it alone, since the clocks of two machines differ."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, Double, Engine, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from jobs.database_file import NOW

LEASE_SECONDS = 60.0
SILENT_SECONDS = 8.0  # without a renewal, of which one comes every other second
FAR_APART_SECONDS = 60.0  # of two clocks: times on pages would mislead
POSTGRESQL = "extract(epoch from clock_timestamp())"


class database_now(FunctionElement[float]):  # it is written and read as a function
    """Seconds since 1970 when the statement is carried out."""

    type = Double()
    inherit_cache = True


def clock_offset(engine: Engine) -> float:
    """Seconds by which this machine's clock is ahead of the database's; those of a file are one."""
    with engine.connect() as connection:
        asked = time.time()
        told = connection.execute(select(database_now())).scalar_one()
        return (asked + time.time()) / 2 - float(told)


def lately(column: ColumnElement[float] | Any, seconds: float) -> ColumnElement[bool]:
    """Whether a moment is at most so many seconds ago; one far ahead was told before the clock was set back."""
    return column.between(database_now() - seconds, database_now() + seconds)


@compiles(database_now)
def _in_general(element: Any, compiler: Any, **options: Any) -> str:
    return (
        POSTGRESQL if compiler.dialect.name == "postgresql" else NOW
    )  # of a file there is no clock but this machine's
