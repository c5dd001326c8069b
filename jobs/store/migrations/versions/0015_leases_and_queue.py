"""Leases of attempts, interruptions without progress, versions of workers, and a queue that can be arranged."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("token", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("interruptions", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("single", sa.String(), nullable=True))
    open_ = sa.text("status IN ('queued', 'running', 'stopping')")
    op.create_index("ux_jobs_single", "jobs", ["single"], unique=True, sqlite_where=open_, postgresql_where=open_)
    op.add_column("workers", sa.Column("version", sa.String(), nullable=True))
    op.create_table(
        "dependencies",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("after_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_dependencies_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["after_id"], ["jobs.id"], name=op.f("fk_dependencies_after_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "after_id", name=op.f("pk_dependencies")),
    )
    op.create_index(op.f("ix_dependencies_after_id"), "dependencies", ["after_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_dependencies_after_id"), "dependencies")
    op.drop_table("dependencies")
    op.drop_column("workers", "version")
    op.drop_index("ux_jobs_single", "jobs")
    op.drop_column("jobs", "single")
    op.drop_column("jobs", "held")
    op.drop_column("jobs", "interruptions")
    op.drop_column("jobs", "token")
