"""Keys of the endpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("ending", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_name"), "keys", ["name"], unique=True)
    op.create_index(op.f("ix_keys_digest"), "keys", ["digest"], unique=True)


def downgrade() -> None:
    op.drop_index(op.f("ix_keys_digest"), "keys")
    op.drop_index(op.f("ix_keys_name"), "keys")
    op.drop_table("keys")
