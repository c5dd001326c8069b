"""What a job that was killed may have left half-written; its own cleaning up did not happen."""

from __future__ import annotations

import shutil

from jobs.home import Home
from jobs.kinds import KINDS
from jobs.runner.child import TEMPORARY
from jobs.store.records import Job


def remove_leftovers(home: Home, job: Job) -> None:
    """Remove what the job has unpacked, and was writing aside, as its kind says. Only once its process has ended."""
    shutil.rmtree(home.job(job.id, job.attempt) / TEMPORARY, ignore_errors=True)
    if job.kind not in KINDS:  # of another version of the studio, which will know
        return
    for folder in KINDS[job.kind].leftovers(home, job.payload):
        shutil.rmtree(folder, ignore_errors=True)
