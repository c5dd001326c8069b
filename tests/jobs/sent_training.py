"""The training of numbers, whose checkpoints are sent to the artefact store as those of a real one."""

from __future__ import annotations

from pathlib import Path

from hydralora.results import RunSummary
from jobs.artefacts.sender import sending_checkpoints
from jobs.runner.child import Job
from tests.chaos import arithmetic


def _train(job: Job) -> RunSummary:
    run = job.home.run(job.payload["run_id"])
    job.home.artefacts.fetch_below(run / "checkpoints")
    save = arithmetic._save
    with sending_checkpoints(job.home.artefacts, run, job.folder) as send:

        def save_and_send(folder: Path, state: str) -> None:
            save(folder, state)
            send(folder)

        arithmetic._save = save_and_send
        return arithmetic._train(job)


TASKS = {"train": _train}
