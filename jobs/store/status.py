"""Where a job stands, and the moves between the places."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands. A finished job never changes again."""

    QUEUED = "queued"  # waiting for a worker
    RUNNING = "running"  # a worker holds it and renews its lease
    STOPPING = "stopping"  # the user asked for a stop; it is saving its state
    SUCCEEDED = "succeeded"  # ended by itself
    FAILED = "failed"  # ended by an error, kept in `error`
    STOPPED = "stopped"  # ended because the user asked
    LOST = "lost"  # its process vanished too often to be taken up again


# Every move that there is; ``jobs.store.events.move`` makes no other. A job goes back to the queue when its process
# vanished or was interrupted, unless the user has asked for a stop meanwhile.
NEXT: dict[JobStatus, set[JobStatus]] = {
    JobStatus.QUEUED: {JobStatus.RUNNING, JobStatus.STOPPED},
    JobStatus.RUNNING: {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.STOPPED,  # its own task ended it, as an idle server does
        JobStatus.STOPPING,
        JobStatus.LOST,
        JobStatus.QUEUED,
    },
    JobStatus.STOPPING: {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.LOST},
    JobStatus.SUCCEEDED: set(),
    JobStatus.FAILED: set(),
    JobStatus.STOPPED: set(),
    JobStatus.LOST: set(),
}

FINISHED = frozenset(status for status, following in NEXT.items() if not following)
ACTIVE = frozenset({JobStatus.RUNNING, JobStatus.STOPPING})
