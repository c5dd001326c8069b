"""Edits that were made together: all of one shortening are undone by one click."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("edits", sa.Column("job_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("edits", "job_id")
