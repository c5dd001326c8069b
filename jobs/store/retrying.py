"""A job whose process has gone without a result: whether it is tried again, and when."""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import Session

from jobs.store.clock import database_now
from jobs.store.events import move
from jobs.store.status import JobStatus
from jobs.store.tables import JobRow

MOST_INTERRUPTIONS = 12  # in a row without a step further
FREE_INTERRUPTIONS = 4  # in a row, after which a job goes on at once
LONGEST_PAUSE = 60.0  # seconds


def try_again(session: Session, row: JobRow, who: str, why: str, *, interrupted: bool, pause: float = 0.0) -> None:
    """Queue a job again after ``pause`` seconds or more, or end it where that makes no sense: somebody asked for a
    stop, or it comes no further.

    Attempts that were ``interrupted`` from outside, as by a shutdown, are not the job's fault and do not count among
    its attempts; many of them without a step further end it as well, since whatever interrupts it will go on.
    """
    if row.stop_requested_at is not None:
        move(session, row, JobStatus.STOPPED, who, why, finished_at=time.time(), progress_text="Stopped")
    elif interrupted:
        _after_interruption(session, row, who, why, pause)
    elif row.fruitless >= row.max_attempts:
        _give_up(session, row, who, why, f"{why} {_how_often(row)}, so it is not tried again. Look at the log")
    else:
        _queue_again(session, row, who, why, max(pause, 2.0 ** (row.fruitless - 1) if row.fruitless else 0.0))


def may_begin() -> ColumnElement[bool]:
    """Whether the pause of a waiting job is over; one that is too long was begun before the clock was set back."""
    return or_(JobRow.not_before <= database_now(), JobRow.not_before > database_now() + 2 * LONGEST_PAUSE)


def _after_interruption(session: Session, row: JobRow, who: str, why: str, pause: float) -> None:
    times = row.interruptions + 1
    if times >= MOST_INTERRUPTIONS:
        error = f"{why} This happened {times} times without a step further, so it is not tried again. See what ends it"
        _give_up(session, row, who, why, f"{error} (a program that frees memory, a quota, a limit of the container)")
        return
    row.interruptions, row.fruitless = times, max(0, row.fruitless - 1)
    longer = 0.0 if times <= FREE_INTERRUPTIONS else min(LONGEST_PAUSE, 2.0 ** (times - FREE_INTERRUPTIONS))
    _queue_again(session, row, who, why, max(pause, longer))


def _how_often(row: JobRow) -> str:
    if row.max_attempts == 1:
        return "Such a job is begun once"
    times = "once" if row.fruitless == 1 else f"{row.fruitless} times"
    return f"This happened {times}{' without a step further' if row.reached else ''}"


def _give_up(session: Session, row: JobRow, who: str, why: str, error: str) -> None:
    way_on = "start it again" if row.max_attempts == 1 else "resume it"
    values = {"finished_at": time.time(), "error_kind": "lost", "error": f"{error}, then {way_on}."}
    move(session, row, JobStatus.LOST, who, why, **values)


def _queue_again(session: Session, row: JobRow, who: str, why: str, pause: float) -> None:
    again = {"worker": None, "process": None, "not_before": database_now() + pause, "progress_text": why}
    move(session, row, JobStatus.QUEUED, who, why, **again)
