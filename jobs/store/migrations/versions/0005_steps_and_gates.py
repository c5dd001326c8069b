"""Numbers of steps as typed columns, and routing weights as 16-bit shares in a table of their own."""

import math
import sys
from array import array
from itertools import islice
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BATCH = 1_000  # rows held at once
NUMBERS = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second")
WHOLE = 65_535  # the share 1.0


def upgrade() -> None:
    op.create_table(
        "steps",
        sa.Column("run_id", sa.Integer(), _of_run(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in NUMBERS),
        sa.Column("more", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_steps")),
        sqlite_with_rowid=False,
    )
    measured = sa.text("eval_loss IS NOT NULL")
    columns = ["run_id", "step", "eval_loss"]
    op.create_index("ix_steps_held_out", "steps", columns, sqlite_where=measured, postgresql_where=measured)
    op.create_table(
        "gates",
        sa.Column("run_id", sa.Integer(), _of_run(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("shares", sa.LargeBinary(), nullable=False),
        sa.Column("layers", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_gates")),
    )
    op.create_table(
        "gate_layers",
        sa.Column("run_id", sa.Integer(), _of_run(), nullable=False),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_gate_layers")),
    )
    _split_rows()
    op.drop_table("metrics")


def downgrade() -> None:
    op.create_table(
        "metrics",
        sa.Column("run_id", sa.Integer(), _of_run(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_metrics")),
    )
    _join_rows()
    op.drop_table("gate_layers")
    op.drop_table("gates")
    op.drop_index("ix_steps_held_out", "steps")
    op.drop_table("steps")


def _of_run() -> sa.ForeignKey:
    return sa.ForeignKey("runs.id", ondelete="CASCADE")


def _table(name: str, *json: str, columns: tuple[str, ...] = ()) -> Any:
    plain: list[Any] = [sa.column(column) for column in ("run_id", *columns)]
    return sa.table(name, *plain, *(sa.column(column, sa.JSON(none_as_null=True)) for column in json))


METRICS = _table("metrics", "numbers", "gates", columns=("step",))
STEPS = _table("steps", "more", columns=("step", *NUMBERS))
GATES = _table("gates", "layers", columns=("step", "shares"))
GATE_LAYERS = _table("gate_layers", "layers")


def _batches(table: Any) -> Any:
    """All rows of a table in the order of runs and steps, some at a time."""
    bind, last = op.get_bind(), (-1, -1)
    while True:
        beyond = sa.or_(table.c.run_id > last[0], sa.and_(table.c.run_id == last[0], table.c.step > last[1]))
        query = sa.select(table).where(beyond).order_by(table.c.run_id, table.c.step).limit(BATCH)
        rows = bind.execute(query).all()
        if not rows:
            return
        yield rows
        last = (rows[-1].run_id, rows[-1].step)


def _split_rows() -> None:
    bind = op.get_bind()
    layers_of: dict[int, Any] = {}
    for rows in _batches(METRICS):
        steps, gates = [], []
        for row in rows:
            steps.append(_typed(row))
            if row.gates:
                layers, shares = _packed(row.gates)
                known = layers_of.setdefault(row.run_id, layers)
                own = None if layers == known else layers
                gates.append({"run_id": row.run_id, "step": row.step, "shares": shares, "layers": own})
        bind.execute(sa.insert(STEPS), steps)
        if gates:
            bind.execute(sa.insert(GATES), gates)
    if layers_of:
        bind.execute(sa.insert(GATE_LAYERS), [{"run_id": run, "layers": each} for run, each in layers_of.items()])


def _join_rows() -> None:
    bind = op.get_bind()
    layers_of = {row.run_id: row.layers for row in bind.execute(sa.select(GATE_LAYERS))}
    for rows in _batches(STEPS):
        metrics = {}
        for row in rows:
            numbers = {name: value for name in NUMBERS if (value := getattr(row, name)) is not None}
            metrics[row.run_id, row.step] = {**numbers, **(row.more or {})}
        bind.execute(
            sa.insert(METRICS),
            [{"run_id": run, "step": step, "numbers": each, "gates": None} for (run, step), each in metrics.items()],
        )
    for rows in _batches(GATES):
        for row in rows:
            where = sa.and_(METRICS.c.run_id == row.run_id, METRICS.c.step == row.step)
            gates = _unpacked(row.shares, row.layers or layers_of[row.run_id])
            bind.execute(sa.update(METRICS).where(where).values(gates=gates))


def _typed(row: Any) -> dict[str, Any]:
    numbers = dict(row.numbers or {})
    values: dict[str, Any] = {"run_id": row.run_id, "step": row.step}
    for name in NUMBERS:
        value = numbers.pop(name, None)
        values[name] = float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    return {**values, "more": numbers or None}


def _packed(gates: dict[str, list[float]]) -> tuple[list[list[Any]], bytes]:
    """``[[layer, experts], ...]`` and the shares: without each layer's last where they sum to one, else in full."""
    rows = list(gates.values())
    layers = [[name, len(row)] for name, row in gates.items()]
    if all(min(row) >= 0 and abs(sum(row) - 1) < 1e-3 for row in rows if row):
        return layers, _little(array("H", [min(round(share * WHOLE), WHOLE) for row in rows for share in row[:-1]]))
    return layers, _little(array("f", [share for row in rows for share in row]))


def _unpacked(shares: bytes, layers: list[list[Any]]) -> dict[str, list[float]]:
    whole = sum(max(0, count - 1) for _, count in layers) * 2 == len(shares)
    values = array("H" if whole else "f", shares)
    if sys.byteorder == "big":
        values.byteswap()
    each, gates = iter(values), {}
    for name, count in layers:
        if whole:
            row = [value / WHOLE for value in islice(each, count - 1)]
            gates[name] = [*row, max(0.0, 1.0 - sum(row))]
        else:
            gates[name] = list(islice(each, count))
    return gates


def _little(values: Any) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return bytes(values.tobytes())
