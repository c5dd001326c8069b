"""What the machine of each worker has, and where it is reached."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("workers", sa.Column("devices", sa.JSON(), nullable=True))
    op.add_column("workers", sa.Column("memory", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("address", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "address")
    op.drop_column("workers", "memory")
    op.drop_column("workers", "devices")
