"""A job's status is one of those there are, the same question about a run is one row, and jobs are found by index."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

STATUSES = ("queued", "running", "stopping", "succeeded", "failed", "stopped", "lost")
IS_STATUS = f"status IN ({', '.join(repr(status) for status in STATUSES)})"


def upgrade() -> None:
    _change_jobs(checked=True)
    op.create_index("ix_jobs_run_id", "jobs", ["run_id"], unique=False)
    op.create_index("ix_jobs_kind", "jobs", ["kind"], unique=False)
    op.add_column("analyses", sa.Column("question", sa.String(), nullable=True))
    _ask_again()
    op.create_index("ix_analyses_question", "analyses", ["run_id", "question"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_analyses_question", "analyses")
    op.drop_column("analyses", "question")
    op.drop_index("ix_jobs_kind", "jobs")
    op.drop_index("ix_jobs_run_id", "jobs")
    _change_jobs(checked=False)


def _change_jobs(checked: bool) -> None:
    bind = op.get_bind()
    is_sqlite = bind.dialect.name == "sqlite"
    # Ids are never given twice: the table that is made anew goes on counting where the old one was.
    counter = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
    last = bind.exec_driver_sql(counter).scalar() if is_sqlite else None
    # What SQLite gives back of a table holds its CHECK only when it is told of it.
    told = () if checked else (sa.CheckConstraint(IS_STATUS, name=op.f("ck_jobs_status")),)
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}, table_args=told) as batch:
        if checked:
            batch.create_check_constraint(op.f("ck_jobs_status"), IS_STATUS)
        else:
            batch.drop_constraint(op.f("ck_jobs_status"), type_="check")
    if last is not None:
        bind.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        bind.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (last,))


def _ask_again() -> None:
    """Write the question of every analysis; where one was asked more than once, the newest has it."""
    bind = op.get_bind()
    analyses = sa.table("analyses", *_columns("id", "run_id", "kind", "job_id", "question"), _json("params"))
    jobs = sa.table("jobs", *_columns("id"), _json("payload"))
    rows = sa.select(analyses.c.id, analyses.c.run_id, analyses.c.kind, analyses.c.params, jobs.c.payload)
    rows = rows.select_from(analyses.outerjoin(jobs, jobs.c.id == analyses.c.job_id)).order_by(analyses.c.id.desc())
    asked = set()
    for row in bind.execute(rows).all():
        version = (row.payload or {}).get("version", 1)
        text = json.dumps([row.kind, version, row.params or {}], sort_keys=True, separators=(",", ":"))
        question = hashlib.sha256(text.encode()).hexdigest()
        if row.payload is not None and (row.run_id, question) not in asked:
            asked.add((row.run_id, question))
            bind.execute(sa.update(analyses).where(analyses.c.id == row.id).values(question=question))


def _columns(*names: str) -> list[Any]:
    return [sa.column(name) for name in names]


def _json(name: str) -> Any:
    return sa.column(name, sa.JSON())
