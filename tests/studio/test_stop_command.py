"""`runs stop` where the worker has died: what has become of the job is stored first, and `runs show` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jobs.home import Home
from jobs.runner.processes import host_name
from jobs.store.status import JobStatus
from jobs.store.store import Store
from jobs.store.tables import RunRow
from tests.jobs.test_worker import make_run
from tests.studio.commands import Commands


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path / "home")
    yield commands
    commands.end()


def make_abandoned_run(store: Store) -> int:
    """A run whose training is called running, by a worker of this machine that has died with it."""
    run = make_run(store)
    job = store.queue.submit("train", {"run_id": run}, run_id=run)
    with Session(store.engine) as session, session.begin():
        row = session.get_one(RunRow, run)
        row.job_id, row.config = job.id, {"method": "lora", "base": "starter"}
    assert store.attempts.claim("dead", host_name(), "heavy") is not None
    return run


def test_a_stop_ends_a_run_whose_worker_has_died(studio: Commands) -> None:
    store = Store(Home(studio.home))
    run = make_abandoned_run(store)
    answer = studio.json("runs", "stop", run, "--wait")
    assert answer["status"] == JobStatus.STOPPED
    said = studio("runs", "show", run).stdout
    events = studio.json("runs", "show", run)["events"]
    assert [event["after"] for event in events] == [
        "queued",
        "running",
        "queued",
        "stopped",
    ]  # true first, then stopped
    assert "queued, by worker" in said and "stopped, by command or studio: Asked to stop." in said
