"""What became of an attempt, told from the files it left."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from jobs.artefacts.address import STORE
from jobs.kinds import KINDS
from jobs.runner.choice import NO_ROOM as NO_NODES
from jobs.runner.choice import NODE_LOST
from jobs.runner.limits import OUT_OF_MEMORY, crash_sentence, machine_memory, sentence
from jobs.runner.running import RESTARTED, RunningJob
from jobs.store.status import JobStatus

CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL})

MOST_OF_MEMORY = 0.75  # of the machine: a process that has taken more and is killed is killed for that


@dataclass(frozen=True)
class Outcome:
    """How a job ends: its status, and the columns that are stored with it."""

    status: JobStatus
    values: dict[str, Any]


@dataclass(frozen=True)
class Retry:
    """A job that is tried again, why, and after how long; one that was ``interrupted`` from outside is not to blame."""

    why: str
    interrupted: bool = False
    pause: float = 0.0  # seconds, at least


NO_ROOM_YET = "The disk is full. It goes on by itself when there is room: old runs and corpora can be deleted."
ROOM_SECONDS = 5.0  # between two tries on a full disk
STORE_SECONDS = 5.0  # before a job for which the artefact store could not be used is tried again
NO_ROOM = Retry(NO_ROOM_YET, interrupted=True, pause=ROOM_SECONDS)
INTERRUPTED = Retry("It was interrupted, as when the machine or its container shuts down.", interrupted=True)


def outcome_of(running: RunningJob) -> Outcome | Retry:
    """The end of a job whose process is gone; where nothing tells of one, that it is tried again."""
    result, ended = running.result(), running.exit()
    stopping = running.job.stop_requested_at is not None
    succeeded = result is not None and result["status"] == "succeeded"
    if ended and ended.get("limit") and not stopping and not succeeded:
        return _failed("limit", sentence(running.job.kind, ended["limit"], running.limits()))
    if result is not None and result["status"] == "interrupted":
        return _goes_on_later(running.job.kind, result, ended)
    if result is not None and result.get("error_kind") == "disk" and not stopping and _goes_on(running.job.kind):
        return NO_ROOM
    if result is not None and result.get("error_kind") == STORE and not stopping:
        return Retry(result["error"], interrupted=True, pause=STORE_SECONDS)
    if result is not None:
        return _told(result, ended)
    if ended is not None and not stopping and ended["code"] > 0:
        return _failed("bug", f"The job ended with code {ended['code']} and no result. The log holds the details.")
    if ended is not None and ended["code"] in CRASHES:
        return _failed("bug", crash_sentence(running.limits()))
    if ended is not None and ended["code"] == -signal.SIGTERM:  # before its task could listen
        return INTERRUPTED
    killed = ended is not None and ended["code"] == -signal.SIGKILL
    if killed and not stopping and ended is not None and ended["peak_bytes"] > MOST_OF_MEMORY * machine_memory():
        return _failed("memory", OUT_OF_MEMORY)
    if killed:
        return Retry("Its process was killed (often for lack of memory).")
    if running.refused:
        return _failed("user", running.refused)
    is_blameless = running.gone in (RESTARTED, NODE_LOST) and _comes_to_an_end(running.job.kind)
    return Retry(running.gone, interrupted=is_blameless)


def _goes_on_later(kind: str, result: dict[str, Any], ended: dict[str, Any] | None) -> Outcome | Retry:
    if not _comes_to_an_end(kind):
        return _told({**result, "status": "stopped"}, ended)
    said = result.get("progress_text")
    return replace(INTERRUPTED, why=said, pause=ROOM_SECONDS) if said in (NODE_LOST, NO_NODES) else INTERRUPTED


def _comes_to_an_end(kind: str) -> bool:
    """Whether jobs of a kind go on after an interruption; a server is started again when somebody asks for it."""
    return kind not in KINDS or KINDS[kind].ends


def _goes_on(kind: str) -> bool:
    """Whether another attempt begins where the last one has saved its state."""
    return kind in KINDS and KINDS[kind].resumes


def _failed(kind: str, error: str) -> Outcome:
    return Outcome(JobStatus.FAILED, {"error_kind": kind, "error": error})


def _told(result: dict[str, Any], ended: dict[str, Any] | None) -> Outcome:
    """What the task itself said, with the memory that its process has taken (bytes)."""
    facts = {**(result.get("result") or {}), **({"peak_bytes": ended["peak_bytes"]} if ended else {})}
    words = "Done" if result["status"] == "succeeded" else ""
    values = {
        "result": facts,
        "error": result.get("error"),
        "error_kind": result.get("error_kind"),
        "progress_text": result.get("progress_text", words),
    }
    return Outcome(JobStatus(result["status"]), values)
