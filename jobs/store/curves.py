"""The same number of many runs over their steps, thinned in the database: what lays curves over each other reads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Select, cast, func, literal, select
from sqlalchemy.orm import Session, aliased

from hydralora.errors import UserError
from jobs.store.rows import Rows
from jobs.store.steps import NUMBERS
from jobs.store.tables import RunRow, StepRow, is_id

POINTS = 20_000  # of all runs together
FEWEST, MOST = 20, 400  # of one run
KEPT = 4_000  # lines that are remembered, of at most so many points each: about 20 MB

Line = tuple[np.ndarray, np.ndarray]  # steps and values, ``(points,)``
Key = tuple[int, str, int, int]  # run, number, points, last step: a run that goes on has another one


class Curves:
    """Reads numbers of many runs; lines that were read before are remembered until their run goes on."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: OrderedDict[Key, Line] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run_ids: Iterable[int], number: str, points: int | None = None) -> dict[int, Line]:
        """Recorded values of one number by run; a run that has none is missing.

        Args:
            number: One of ``NUMBERS``.
            points: How many of each run at most, evenly spread over its steps, the first and the last among them; as
                many as ``POINTS`` allow where None.

        Raises:
            UserError: When no step has such a number.
        """
        if number not in NUMBERS:
            raise UserError(f"No step has a number called '{number}'. Choose one of: {', '.join(NUMBERS)}.")
        wanted = list(filter(is_id, run_ids))
        count = points or min(MOST, max(FEWEST, POINTS // max(1, len(wanted))))
        with self._rows.reading() as session:
            last = _last_steps(session, wanted, number)
            keys = {run_id: (run_id, number, count, step) for run_id, step in last.items()}
            with self._lock:
                missing = [run_id for run_id, key in keys.items() if key not in self._kept]
            fresh = _by_run(session.execute(_evenly(missing, number, count)).all()) if missing else {}
        return self._remember(keys, fresh)

    def _remember(self, keys: dict[int, Key], fresh: dict[int, Line]) -> dict[int, Line]:
        """The lines of some keys, of which the ``fresh`` ones were just read."""
        found: dict[int, Line] = {}
        with self._lock:
            for run_id, key in keys.items():
                line = fresh[run_id] if run_id in fresh else self._kept.get(key)
                if line is not None:
                    found[run_id] = self._kept[key] = line
                    self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


def _last_steps(session: Session, run_ids: Sequence[int], number: str) -> dict[int, int]:
    """The last step at which each run has a number."""
    last = select(func.max(StepRow.step)).where(StepRow.run_id == RunRow.id, getattr(StepRow, number).is_not(None))
    query = select(RunRow.id, last.scalar_subquery()).where(RunRow.id.in_(run_ids))
    return {run_id: step for run_id, step in session.execute(query) if step is not None}


def _evenly(run_ids: Sequence[int], number: str, count: int) -> Select[Any]:
    """Of each run the first recorded step at or beyond each of ``count`` evenly spread ones, by the index."""
    ends, later = aliased(StepRow), aliased(StepRow)
    last = select(func.max(ends.step)).where(ends.run_id == RunRow.id, getattr(ends, number).is_not(None))
    first = last.with_only_columns(func.min(ends.step))
    runs = select(RunRow.id, first.scalar_subquery().label("first"), last.scalar_subquery().label("last"))
    each = runs.where(RunRow.id.in_(run_ids)).cte("each_run").prefix_with("MATERIALIZED")
    place = select(literal(0).label("place")).cte("place", recursive=True)
    place = place.union_all(select(place.c.place + 1).where(place.c.place < count - 1))
    length = cast(each.c.last - each.c.first, BigInteger)  # its product with a place may be beyond 32 bits
    wanted = each.c.first + length * place.c.place // max(1, count - 1)
    following = select(func.min(later.step)).where(
        later.run_id == each.c.id, later.step >= wanted, getattr(later, number).is_not(None)
    )
    return (
        select(StepRow.run_id, StepRow.step, getattr(StepRow, number))
        .select_from(each)
        .join(place, literal(True))
        .join(StepRow, (StepRow.run_id == each.c.id) & (StepRow.step == following.scalar_subquery()))
    )


def _by_run(found: Sequence[Any]) -> dict[int, Line]:
    """Lines by run, their steps ascending and each once."""
    if not found:
        return {}
    runs, steps, values = (np.array(column) for column in zip(*found, strict=True))
    order = np.lexsort((steps, runs))
    runs, steps, values = runs[order], steps[order], values[order]
    once = np.concatenate([[True], (np.diff(runs) != 0) | (np.diff(steps) != 0)])
    runs, steps, values = runs[once], steps[once], values[once]
    cuts = np.flatnonzero(np.diff(runs)) + 1
    pieces = zip(np.split(runs, cuts), np.split(steps, cuts), np.split(values, cuts), strict=True)
    return {int(run[0]): (step, value) for run, step, value in pieces}
