"""What is said of a job that is called running and was not heard of lately, the same on pages and by commands."""

from __future__ import annotations

import time

from jobs.store.records import Job

TODAY = 12 * 3600.0  # seconds, for which a time of day is enough


def silence(since: float | None) -> str:
    """Since when nothing was heard, as a sentence begins; nothing where something was."""
    if since is None:
        return ""
    form = "%H:%M:%S" if abs(time.time() - since) < TODAY else "%Y-%m-%d %H:%M:%S"
    return f"Not heard of since {time.strftime(form, time.localtime(since))}"


def words_of(job: Job) -> str:
    """What a job says of itself; where it was not heard of lately, since when, and what it said before."""
    if job.silent_since is None:
        return job.progress_text
    before = f" Before: {job.progress_text}" if job.progress_text else ""
    return f"{silence(job.silent_since)}.{before}"
