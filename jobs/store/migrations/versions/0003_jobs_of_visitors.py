"""Jobs know who asked for them, so that several visitors take fair turns."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("visitor", sa.String(), nullable=False, server_default=""))
    op.create_index("ix_jobs_turns", "jobs", ["lane", "visitor", "started_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_jobs_turns", "jobs")
    op.drop_column("jobs", "visitor")
