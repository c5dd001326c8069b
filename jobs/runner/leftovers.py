"""What a job that was killed may have left: files half-written, since its own cleaning up did not happen, and control
groups."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import select

from jobs.home import Home
from jobs.kinds import KINDS
from jobs.runner.cgroup import groups_of
from jobs.runner.child import TEMPORARY
from jobs.store.records import Job
from jobs.store.status import ACTIVE
from jobs.store.store import Store
from jobs.store.tables import JobRow


def remove_leftovers(home: Home, job: Job) -> None:
    """Remove what the job has unpacked, and was writing aside, as its kind says. Only once its process has ended."""
    shutil.rmtree(home.job(job.id, job.attempt) / TEMPORARY, ignore_errors=True)
    if job.kind not in KINDS:  # of another version of the studio, which will know
        return
    for folder in KINDS[job.kind].leftovers(home, job.payload):
        shutil.rmtree(folder, ignore_errors=True)


def left_groups(store: Store) -> list[Path]:
    """Control groups of this home, on this machine, that no attempt works in any more."""
    found = list(groups_of(store.home.root))
    if not found:
        return []
    with store.engine.connect() as connection:
        query = select(JobRow.id, JobRow.attempt).where(JobRow.status.in_(ACTIVE))
        works = {(job, attempt) for job, attempt in connection.execute(query)}
    return [group for group, job, attempt in found if (job, attempt) not in works]
