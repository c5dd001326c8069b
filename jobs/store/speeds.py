"""What is known of how fast this machine trains, by corpus, base and method."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy.orm import Session

from hydralora.config import RunConfig
from hydralora.errors import UserError
from hydralora.training.presets import Speed, speed_of
from jobs.home import Home
from jobs.store.changes import SPEED
from jobs.store.queue import Queue
from jobs.store.records import Clustering, Corpus, Job
from jobs.store.settings import Settings
from jobs.store.status import JobStatus
from jobs.store.tables import JobRow, SettingRow


class Speeds:
    """Measured speeds; ``ask`` queues a measurement where there is none."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings, self.queue = settings, queue

    def get(self, corpus_id: int, config: RunConfig) -> Speed | None:
        """The measured speed of such a run, or None."""
        value = self.settings.get(_key(corpus_id, config))
        return speed_of(value) if value else None

    def estimate(self, corpus: Corpus, config: RunConfig) -> float | None:
        """Seconds a run of this configuration will take, where the speed is known."""
        speed = self.get(corpus.id, config)
        return speed.of_run(config.train, corpus.examples or 0) if speed else None

    def job(self, corpus_id: int, config: RunConfig) -> Job | None:
        """The newest measurement of such a run that is waiting, under way or failed; None when never tried."""
        found = (
            job for job in self.queue.jobs(kind="speed", limit=50) if job.payload["key"] == _key(corpus_id, config)
        )
        return next((job for job in found if job.status != JobStatus.STOPPED), None)

    def ask(self, corpus_id: int, config: RunConfig, clustering: Clustering | None = None) -> Job | None:
        """Queue a measurement, after waiting runs; None when the speed is known already."""
        if self.get(corpus_id, config) is not None:
            return None
        known = self.job(corpus_id, config)
        if known is not None:
            return known
        payload: dict[str, Any] = {
            "key": _key(corpus_id, config),
            "corpus_id": corpus_id,
            "clustering_id": clustering.id if clustering else None,
            "grouping": clustering.grouping if clustering else None,
            "config": config.model_dump(),
        }
        return self.queue.submit("speed", payload, corpus_id=corpus_id, max_attempts=1, priority=-1)

    def give_way(self) -> None:
        """End every measurement: somebody wants to train now."""
        for job in self.queue.jobs(kind="speed", limit=50):
            if not job.is_finished and job.status != JobStatus.STOPPING:
                with suppress(UserError):  # it may end by itself just now
                    self.queue.stop(job.id)


def _key(corpus_id: int, config: RunConfig) -> str:
    return f"{SPEED}{config.method} on corpus {corpus_id}, base {config.base}"


def write_measurement(session: Session, job: JobRow, home: Home) -> None:
    """Remember a measured speed under the key that was asked for."""
    session.merge(SettingRow(key=job.payload["key"], value=job.result or {}))
