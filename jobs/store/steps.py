"""Steps of runs: their numbers, and the routing weights that were recorded with some of them.

However many steps a run has, a read of some of them asks an index once for each that it gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, func, literal, select, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from jobs.store.changes import tell
from jobs.store.gates import Layers, pack, unpack
from jobs.store.metrics import read_metrics
from jobs.store.records import Job, Step
from jobs.store.rows import Rows
from jobs.store.tables import GateLayersRow, GateRow, JobRow, StepRow, is_id

NUMBERS = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second")  # those with a column


class Steps:
    """All reads and writes of steps."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def between(self, run_id: int, after: int, most: int | None, *, gates: bool) -> list[Step]:
        """Steps beyond ``after`` in order; about ``most`` of them, evenly spread, where there are more.

        The first, the last and those with a held-out loss are among them (of these, too, at most ``most``).
        """
        where = (StepRow.run_id == run_id, StepRow.step > after)
        with self._rows.reading() as session:
            first, last = _ends(session, StepRow, where)
            if most is None or last - first < most:
                return _read(session, run_id, where, gates=gates)
            even, of_run = _even_steps(first, last, most), StepRow.run_id == run_id
            measured = _following(StepRow, (of_run, StepRow.eval_loss.is_not(None)), even)
            chosen = union_all(_following(StepRow, (of_run,), even), measured, select(literal(last)))
            return _read(session, run_id, (of_run, StepRow.step.in_(chosen)), gates=gates)

    def routed(self, run_id: int, most: int) -> list[Step]:
        """Steps with routing weights in order; ``most`` of them, evenly spread, where there are more."""
        where = (GateRow.run_id == run_id,)
        with self._rows.reading() as session:
            first, last = _ends(session, GateRow, where)
            even = _following(GateRow, where, _even_steps(first, last, most))
            chosen = StepRow.step.in_(union_all(even, select(literal(last))))
            return _read(session, run_id, (StepRow.run_id == run_id, chosen), gates=True)

    def newest(self, run_id: int) -> Step | None:
        """The last step, with the numbers of the newest training step, the newest held-out loss and routing weights."""
        if not is_id(run_id):
            return None
        names = [name for name in NUMBERS if name != "eval_loss"]
        of_run = select(StepRow.step).where(StepRow.run_id == run_id)
        trained = of_run.where(StepRow.loss.is_not(None)).order_by(StepRow.step.desc()).limit(1).scalar_subquery()
        routed = select(func.max(GateRow.step)).where(GateRow.run_id == run_id).scalar_subquery()
        query = (
            select(of_run.with_only_columns(func.max(StepRow.step)).scalar_subquery(), _newest_held_out(run_id))
            .add_columns(*(getattr(StepRow, name) for name in names))
            .add_columns(GateRow.shares, GateRow.layers, GateLayersRow.layers)
            .select_from(select(literal(1).label("one")).subquery())
            .outerjoin(StepRow, (StepRow.run_id == run_id) & (StepRow.step == trained))
            .outerjoin(GateRow, (GateRow.run_id == run_id) & (GateRow.step == routed))
            .outerjoin(GateLayersRow, GateLayersRow.run_id == run_id)
        )
        with self._rows.reading() as session:
            last, held_out, *values, shares, own_layers, layers = session.execute(query).one()
        if last is None:
            return None
        found = {"eval_loss": held_out, **dict(zip(names, values, strict=True))}
        numbers = {name: value for name, value in found.items() if value is not None}
        return Step(last, numbers, None if shares is None else unpack(shares, own_layers or layers))

    def add(self, job: Job, steps: list[dict[str, Any]], offset: int) -> None:
        """Store steps read from a job's file up to byte ``offset``; a step known is overwritten, value by value."""
        with self._rows.writing() as session:
            row = session.get(JobRow, job.id)
            if row is not None and row.attempt == job.attempt and row.worker == job.worker:
                _keep(session, row, steps, offset)


def take_in(session: Session, row: JobRow, folder: Path) -> str | None:
    """Store what an attempt's file holds beyond what is stored, before its job changes state; ``folder`` is the
    attempt's. A sentence where the file is damaged."""
    found = read_metrics(folder, row.payload.get("run_id"), row.metrics_offset)
    _keep(session, row, found.steps, found.offset)
    return found.problem


def _keep(session: Session, row: JobRow, steps: list[dict[str, Any]], offset: int) -> None:
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    for item in steps:
        merged.setdefault((item["run_id"], item["step"]), {}).update(item["values"])
    if merged:
        _write(session, merged)
    row.metrics_offset = offset
    furthest = max((step for _, step in merged), default=0)
    if furthest > row.reached:
        row.reached, row.fruitless, row.interruptions = furthest, 0, 0
    tell(session, *(f"run-{run_id}" for run_id, _ in merged))


def _ends(session: Session, table: Any, where: Iterable[ColumnElement[bool]]) -> tuple[int, int]:
    """The first and the last step that meet some conditions; (0, -1) where none does."""
    ends = [select(edge(table.step)).where(*where).scalar_subquery() for edge in (func.min, func.max)]
    first, last = session.execute(select(*ends)).one()
    return (0, -1) if first is None else (first, last)


def _even_steps(first: int, last: int, most: int) -> CTE:
    """``first``, ``first + n``, ``first + 2 n``, ... up to ``last``, about ``most`` of them."""
    stride = max(1, math.ceil((last - first) / most))
    even = select(literal(first).label("step")).cte("even", recursive=True)
    return even.union_all(select(even.c.step + stride).where(even.c.step + stride <= last))


def _following(table: Any, where: Iterable[ColumnElement[bool]], even: CTE) -> Select[Any]:
    """For each of some steps the next recorded one that meets some conditions, by the index."""
    following = select(func.min(table.step)).where(*where, table.step >= even.c.step).correlate(even)
    return select(following.scalar_subquery()).select_from(even)


def _newest_held_out(run_id: int) -> Any:
    query = select(StepRow.eval_loss).where(StepRow.run_id == run_id, StepRow.eval_loss.is_not(None))
    return query.order_by(StepRow.step.desc()).limit(1).scalar_subquery()


def _read(session: Session, run_id: int, where: Iterable[ColumnElement[bool]], *, gates: bool = True) -> list[Step]:
    """Steps that meet some conditions, in order."""
    columns = [getattr(StepRow, name) for name in NUMBERS]
    query = select(StepRow.step, StepRow.more, *columns).where(*where).order_by(StepRow.step)
    if not gates:
        return [_step([*row, None, None], []) for row in session.execute(query)]
    query = query.add_columns(GateRow.shares, GateRow.layers).outerjoin(
        GateRow, (GateRow.run_id == StepRow.run_id) & (GateRow.step == StepRow.step)
    )
    layers = session.scalar(select(GateLayersRow.layers).where(GateLayersRow.run_id == run_id))
    return [_step(row, layers or []) for row in session.execute(query)]


def _step(row: Any, layers: Layers) -> Step:
    step, more, *values, shares, own_layers = row
    numbers = {name: value for name, value in zip(NUMBERS, values, strict=True) if value is not None}
    gates = None if shares is None else unpack(shares, own_layers or layers)
    return Step(step, {**numbers, **(more or {})}, gates)


def _write(session: Session, steps: dict[tuple[int, int], dict[str, Any]]) -> None:
    """Insert steps, or write over what is known of them; what is not given stays."""
    rows, routed = [], []
    for (run_id, step), values in steps.items():
        row: dict[str, Any] = {"run_id": run_id, "step": step, "more": None}
        row |= {name: _number(values.get(name)) for name in NUMBERS}
        more = {name: value for name, value in values.items() if name not in (*NUMBERS, "gates")}
        if more:
            known = session.get(StepRow, (run_id, step))
            row["more"] = {**(known.more or {} if known else {}), **more}
        rows.append(row)
        if values.get("gates"):
            routed.append(_routed(session, run_id, step, values["gates"]))
    _put(session, StepRow, rows)
    if routed:
        _put(session, GateRow, routed)


def _number(value: Any) -> float | None:
    """A finite number, or None: no curve shows another, and databases differ in what they keep of it."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _routed(session: Session, run_id: int, step: int, gates: dict[str, list[float]]) -> dict[str, Any]:
    layers, shares = pack(gates)
    known = session.get(GateLayersRow, run_id)
    if known is None:
        session.add(GateLayersRow(run_id=run_id, layers=layers))
        session.flush()
    own = None if known is None or known.layers == layers else layers
    return {"run_id": run_id, "step": step, "shares": shares, "layers": own}


def _put(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    """Insert rows by their key; a value that is None leaves what is there."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    keys = ("run_id", "step")
    fresh: dict[str, Any] = {
        name: func.coalesce(statement.excluded[name], getattr(table, name)) for name in rows[0] if name not in keys
    }
    if table is GateRow:  # both columns belong together
        fresh = {name: statement.excluded[name] for name in ("shares", "layers")}
    session.connection().execute(statement.on_conflict_do_update(index_elements=keys, set_=fresh), rows)
