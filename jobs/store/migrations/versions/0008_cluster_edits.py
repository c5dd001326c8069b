"""Edits of clusters, and the grouping that a run was started with."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "cluster_edits",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("clustering_id", sa.Integer(), nullable=False),
        sa.Column("corpus_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("grouping", sa.String(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("visitor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("undone_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["clustering_id"], ["clusterings.id"], name=op.f("fk_cluster_edits_clustering_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["corpus_id"], ["corpora.id"], name=op.f("fk_cluster_edits_corpus_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_cluster_edits_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster_edits")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_cluster_edits_clustering_id"), "cluster_edits", ["clustering_id"])
    op.add_column("runs", sa.Column("grouping", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "grouping")
    op.drop_index(op.f("ix_cluster_edits_clustering_id"), "cluster_edits")
    op.drop_table("cluster_edits")
