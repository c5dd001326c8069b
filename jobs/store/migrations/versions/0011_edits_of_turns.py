"""Edits of conversations: what else than prompt and answer is worded anew."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("edits", sa.Column("more", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("edits", "more")
