"""Only moves that there are can be written down, and files of numbers may be larger than 2 GiB."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

MOVES = {
    None: ("queued",),
    "queued": ("running", "stopped"),
    "running": ("stopping", "queued", "succeeded", "failed", "stopped", "lost"),
    "stopping": ("succeeded", "failed", "stopped", "lost"),
}


def upgrade() -> None:
    _check_events(checked=True)
    if op.get_bind().dialect.name == "postgresql":  # numbers of SQLite have one size
        op.alter_column("jobs", "metrics_offset", type_=sa.BigInteger())


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("jobs", "metrics_offset", type_=sa.Integer())
    _check_events(checked=False)


def _is_move() -> str:
    parts = []
    for before, after in MOVES.items():
        is_before = "before IS NULL" if before is None else f"before IS NOT NULL AND before = '{before}'"
        parts.append(f"({is_before} AND after IN ({', '.join(repr(status) for status in after)}))")
    return " OR ".join(parts)


def _check_events(checked: bool) -> None:
    bind, name = op.get_bind(), op.f("ck_events_move")
    is_sqlite = bind.dialect.name == "sqlite"
    # Ids are never given twice: the table that is made anew goes on counting where the old one was.
    counter = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
    last = bind.exec_driver_sql(counter).scalar() if is_sqlite else None
    # What SQLite gives back of a table holds its CHECK only when it is told of it.
    told = () if checked else (sa.CheckConstraint(_is_move(), name=name),)
    with op.batch_alter_table("events", table_kwargs={"sqlite_autoincrement": True}, table_args=told) as batch:
        if checked:
            batch.create_check_constraint(name, _is_move())
        else:
            batch.drop_constraint(name, type_="check")
    if last is not None:
        bind.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'events'")
        bind.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (last,))
