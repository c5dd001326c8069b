"""What an attempt has made, put in its place by the transaction that ends its job.

The work writes into the attempt's own folder. Whoever ends the job moves that to where it belongs while it holds the
job's row, so that an attempt that has lost its job can change nothing there. Where this is cut short between the move
and the row, the next one finds it moved.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from hydralora.files import put_in_place, remove, written_aside
from jobs.home import Home
from jobs.store.metrics import FILE as METRICS
from jobs.store.records import Job

LOG = logging.getLogger(__name__)
OUT = "out"  # folder of an attempt with what is to be published


def publish(attempt: Path, finals: Iterable[Path]) -> None:
    """Put each of ``finals`` that the attempt has made in its place, whole, over what was there."""
    for final in finals:
        made = attempt / OUT / final.name
        if made.exists():
            _move(made, final)


def _move(made: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if made.stat().st_dev == final.parent.stat().st_dev:
        put_in_place(made, final)
        return
    with written_aside(final) as aside:
        shutil.copytree(made, aside)
    remove(made)


def forget_metrics(home: Home, job: Job) -> None:
    """Remove the files with numbers of steps of a job that has ended, as far as its rows hold them, and what its
    attempts had made to be published; not its log."""
    for made in home.attempts(job.id).glob(f"*/{OUT}") if job.is_finished else ():
        remove(made)
    for file in home.attempts(job.id).glob(f"*/{METRICS}"):
        try:
            is_stored = file.parent.name != str(job.attempt) or file.stat().st_size <= job.metrics_offset
            if job.is_finished and is_stored:
                file.unlink(missing_ok=True)
        except OSError as error:
            LOG.warning("%s of job %d stays: %s", file.name, job.id, error.strerror)
