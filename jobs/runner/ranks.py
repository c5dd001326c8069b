"""The processes that train one run together on one machine.

The job's own process leads: it reports, saves and holds what the attempt holds. It starts the others
(`python -m jobs.runner.ranks FOLDER RANK`), which write nothing but their random state into checkpoints. When one of
them dies all end, and the next attempt goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydralora.errors import StoppedError, UserError
from hydralora.files import write_json
from hydralora.plain import one_line, without_paths
from jobs.runner.logs import begin_log
from jobs.runner.processes import end_with_parent

if TYPE_CHECKING:
    from jobs.runner.child import Job

log = logging.getLogger("jobs.runner.ranks")  # under its own name also where it runs as a program
PROCESSES_VARIABLE = "HYDRA_STUDIO_PROCESSES"  # how many a training has
LOOK_SECONDS = 0.2
END_SECONDS = 20.0  # that the leading process has to end by itself after another one has failed
FAILED = 1
LEAD, FOLLOW = "jobs.tasks.lead", "jobs.tasks.follow"  # imported where a run is trained only, as the tasks of kinds are


def asked_processes() -> int:
    """How many processes a training is asked to have."""
    return max(1, int(os.environ.get(PROCESSES_VARIABLE) or 1))


@contextmanager
def followed(job: Job, processes: int) -> Iterator[None]:
    """Lead ``processes`` processes, this one among them, until the block ends.

    Raises:
        UserError: With what another process has failed by.
    """
    if processes == 1:
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    os.environ.update(together, RANK="0", LOCAL_RANK="0", LOCAL_WORLD_SIZE=str(processes))
    words = [sys.executable, "-m", "jobs.runner.ranks", str(job.folder)]
    others = [
        subprocess.Popen([*words, str(rank)], env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(1, processes)
    ]
    over = threading.Event()
    threading.Thread(target=_watch, args=(others, over), daemon=True).start()
    try:
        yield
    except (UserError, StoppedError):
        raise
    except BaseException:
        _blame(job.folder, others)
        raise
    finally:
        over.set()
        for other in others:
            _end(other)


def _watch(others: list[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """End this process when another one was killed, or has failed and this one does not end by that."""
    while not over.wait(LOOK_SECONDS):
        codes = [other.poll() for other in others]
        if any(code is not None and code < 0 for code in codes):
            break
        if any(codes):
            if over.wait(END_SECONDS):
                return
            break
    else:
        return
    end_attempt()


def end_attempt() -> NoReturn:
    """End this process as the one that was lost: nothing that it could still do may count."""
    log.error("A process that trains with this one has ended: the attempt ends, and goes on from its last checkpoint.")
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process went on")


def failure_of(rank: int, error: Exception) -> str:
    """What is told of a process that failed by an error which nobody foresaw."""
    return f"Process {rank} of the training failed: {type(error).__name__}: {without_paths(one_line(str(error)))}"


def _blame(folder: Path, others: list[subprocess.Popen[bytes]]) -> None:
    """Tell what another process has failed by, where that is why this one fails.

    Raises:
        UserError: With its sentence.
    """
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and not any(other.poll() for other in others):
        time.sleep(LOOK_SECONDS)
    if any((other.poll() or 0) < 0 for other in others):
        time.sleep(END_SECONDS)  # the watching thread ends this process
    for rank in range(1, len(others) + 1):
        file = folder / f"rank-{rank}.json"
        if file.exists():
            raise UserError(str(json.loads(file.read_bytes())["error"]))


def _end(other: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has done its work, or end it."""
    try:
        other.wait(5.0)
    except subprocess.TimeoutExpired:
        other.kill()
        other.wait()


def main(folder: Path, rank: int) -> int:
    """Train along as process ``rank`` of the attempt in ``folder``."""
    from jobs.kind import named
    from jobs.runner.child import Job

    begin_log()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the leading process says when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(os.getppid())
    job = Job(folder, json.loads((folder / "spec.json").read_bytes()))
    os.chdir(folder)
    try:
        named(FOLLOW)(job)
    except StoppedError:
        return 0
    except Exception as error:
        log.exception("Process %d failed.", rank)
        told = str(error) if isinstance(error, UserError) else failure_of(rank, error)
        write_json(folder / f"rank-{rank}.json", {"error": told})
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
