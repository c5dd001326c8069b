"""A further kind of job, as a contributor would add it: a task, and one object that says everything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from hydralora.results import Result
from jobs.home import Home
from jobs.kind import Kind
from jobs.kind_limits import Limits
from jobs.kinds import register
from jobs.runner.child import Job
from jobs.store.tables import JobRow, RunRow


class Lengths(Result):
    """How many bytes the files of a run's adapter have."""

    FILE = "lengths.json"

    files: dict[str, int] = Field(description="Bytes by name of the file")
    sentence: str = Field(description="How many files there are")


def lengths(job: Job) -> Lengths:
    """Measure the files of a run's adapter."""
    found = {path.name: path.stat().st_size for path in job.home.adapter(job.payload["run_id"]).iterdir()}
    result = Lengths(files=found, sentence=f"The adapter has {len(found)} files.")
    return result.write(job.home.analysis(job.payload["analysis_id"]))


def _limits(memory: int) -> Limits:
    return Limits(wall=77)


def _leftovers(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.analysis(payload["analysis_id"])]


def write_sentence(session: Session, job: JobRow, home: Home) -> None:
    """Write what was found into the name of the run."""
    run = session.get(RunRow, job.run_id)
    if run is not None and job.result is not None:
        run.name = job.result["sentence"]


def _spent(home: Home, payload: Mapping[str, Any]) -> list[Path]:
    return [home.uploads / "lengths"]


LENGTHS = register(
    Kind(
        "lengths",
        "Lengths of files",
        "tests.jobs.scratch_kind.lengths",
        version=1,
        result=Lengths,
        look={},
        grace_seconds=1.5,
        limits=_limits,
        leftovers=_leftovers,
        writer="tests.jobs.scratch_kind.write_sentence",
        spent=_spent,
    )
)
