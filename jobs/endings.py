"""What is told of jobs that have ended: which of them, and in which words."""

from __future__ import annotations

from hydralora.errors import UserError
from hydralora.plain import one_line, without_paths
from jobs.kinds import PREVIEWS, title_of
from jobs.store.records import Event, Job
from jobs.store.status import JobStatus
from jobs.store.store import Store

GLANCES = (*PREVIEWS, "speed")  # what pages ask for by themselves, for somebody who looks at them
WORDS = {
    JobStatus.SUCCEEDED: "is finished",
    JobStatus.STOPPED: "was stopped",
    JobStatus.FAILED: "has failed",
    JobStatus.LOST: "was lost",
}


def is_told(job: Job) -> bool:
    """Whether anybody is told of its end: neither of a server nor of a glance."""
    return job.lane != "server" and job.kind not in GLANCES


def reason(job: Job) -> str:
    """Why it failed, in its first line without paths; empty where it did not."""
    return without_paths((job.error or "").partition("\n")[0]).rstrip(".")


def sentence(event: Event, job: Job, run: str | None) -> str:
    """``Training of run 3 "units" is finished.``, and why where it is not."""
    of_run = f' of run {job.run_id} "{run}"' if run else ""
    why = reason(job)
    return one_line(
        f"{title_of(job.kind)}{of_run} {WORDS.get(JobStatus(event.after), event.after)}.{why and f' {why}.'}"
    )


def name_of_run(store: Store, job: Job) -> str | None:
    """The name of the run that a job is for; None where it is for none, or that is deleted."""
    try:
        return store.runs.get(job.run_id).name if job.run_id else None
    except UserError:
        return None
