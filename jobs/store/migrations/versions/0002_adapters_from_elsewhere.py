"""Adapters from elsewhere: a run may have no corpus."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _change(nullable: bool) -> None:
    bind = op.get_bind()
    is_sqlite = bind.dialect.name == "sqlite"
    # Ids are never given twice: the table that is made anew goes on counting where the old one was.
    counter = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
    last = bind.exec_driver_sql(counter).scalar() if is_sqlite else None
    with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("corpus_id", existing_type=sa.Integer(), nullable=nullable)
    if last is not None:
        bind.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'runs'")
        bind.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?)", (last,))


def upgrade() -> None:
    _change(nullable=True)


def downgrade() -> None:
    _change(nullable=False)
