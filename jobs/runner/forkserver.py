"""A process that has loaded torch, transformers and PEFT, and forks itself for attempts that need them.

`python -m jobs.runner.forkserver HOME MODULE ...`, started by the worker. Importing these takes 6 to 8 seconds of
processor time: here once for all jobs instead of once a job. A request is a line of JSON on standard input, an answer
one on standard output: first ``{"ready": true}``, then a pid and start time for each request. It ends with its worker,
or when nothing was asked of it for ``IDLE_SECONDS``; the attempts go on, each in a session of its own.

Only for Linux without an accelerator: elsewhere it ends at once, since a GPU's driver does not survive a fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import psutil

from hydralora.files import write_json
from jobs.runner.ownership import STARTED
from jobs.runner.processes import Identity, family, identity, is_alive, kill
from jobs.runner.reaper import read_limits, reap

MODULES = ("peft", "hydralora.training.train", "hydralora.analysis.answers", "jobs.chat.server")
IDLE_SECONDS = 600.0
START_SECONDS = 120.0  # to load everything; a process that takes longer is given up
FORK_SECONDS = 10.0


class Fork:
    """A forked process of ours, waited for as ``subprocess.Popen`` is."""

    def __init__(self, work: Callable[[], int]) -> None:
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _end_with(work)

    def wait(self) -> int:
        """Its return code, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        """Send TERM."""
        os.kill(self.pid, signal.SIGTERM)


def _end_with(work: Callable[[], int]) -> None:
    """Do the work and end this process with what it gives, never going back into what was forked."""
    code = 1
    try:
        code = work()
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else 1
    except BaseException:
        logging.getLogger(__name__).exception("A forked process failed.")
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def main(modules: list[str]) -> int:
    """Load the modules, then fork on request; 0 at the end of the requests, 3 where forking is not for this machine."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    if not _is_for_this_machine():
        return 3
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies; an attempt's end is told by its files
    gc.collect()
    gc.freeze()  # what is loaded stays shared between all forks
    _answer(answers, {"ready": True})
    while select.select([0], [], [], IDLE_SECONDS)[0] and (line := sys.stdin.readline()):
        request = json.loads(line)
        _answer(answers, identity(Fork(partial(_attempt, answers, os.getpid(), **request)).pid))
    return 0


def _is_for_this_machine() -> bool:
    import torch

    return sys.platform == "linux" and not torch.accelerator.is_available()


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _attempt(
    answers: TextIO, server: int, folder: str, cwd: str, environment: dict[str, str], database: str = ""
) -> int:
    """In the fork: become what `jobs.runner.reaper` is when it is started as a program."""
    os.setsid()
    answers.close()
    if not _announce(Path(folder), server):
        return 1
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    place = Path(folder)
    with (place / "log.txt").open("ab") as log, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    return 1 if reap(place, lambda: Fork(lambda: _work(place)), read_limits(place), database) else 0


def _announce(folder: Path, server: int) -> bool:
    """Write down who works on the attempt, then see whether the server still lives; whether the attempt may begin.

    A server that dies before it has answered leaves its worker without the pid. The order makes it one of two: either
    the worker finds this file and adopts the attempt, or the attempt finds that its parent has gone and ends.
    """
    write_json(folder / STARTED, identity(os.getpid()))
    return os.getppid() == server


def _read_identity(folder: Path) -> Identity | None:
    """Who has announced itself in the folder of an attempt and lives."""
    with suppress(FileNotFoundError):
        found: Identity = json.loads((folder / STARTED).read_text("utf-8"))
        return found if is_alive(found) else None
    return None


def _work(folder: Path) -> int:
    from jobs.runner.child import work

    return work(folder)


class Forkserver:
    """The worker's end: starts the server, sees when it is ready, and has it fork.

    ``was_ready`` tells one that was idle for long, after which another may be started, from one that is not for here.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.began = time.monotonic()
        with (home / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs.runner.forkserver", str(home), *MODULES],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd=home,
                env=environment,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.was_ready = False
        self._forked: list[int] = []

    def is_loading(self) -> bool:
        """Whether it is worth waiting for: it lives and has not said yet that it is ready."""
        if not self.was_ready and self.is_alive() and self._has_answer(0.0):
            self.was_ready = bool(self._read().get("ready"))
        return not self.was_ready and self.is_alive() and time.monotonic() - self.began < START_SECONDS

    def is_ready(self) -> bool:
        """Whether it forks now."""
        return self.was_ready and self.is_alive()

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def fork(self, folder: Path, cwd: Path, environment: dict[str, str], database: str = "") -> Identity:
        """Start the attempt in ``folder``; what looks after it is told the ``database``, the work itself is not.

        Raises:
            OSError: When it gave no answer; nothing of the attempt runs then.
        """
        request = {"folder": str(folder), "cwd": str(cwd), "environment": environment, "database": database}
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        answer = self._read() if self._has_answer(FORK_SECONDS) else {}
        if not answer:
            self._give_up()
            answer = _read_identity(folder) or {}  # it was forked, and the server died before it could say so
        if not answer:
            raise OSError("the process that forks attempts gave no answer")
        self._forked.append(answer["pid"])
        return answer

    def _give_up(self) -> None:
        """End it, and with it an attempt that it forked without saying so while it lives."""
        self._process.send_signal(signal.SIGSTOP)
        with suppress(psutil.NoSuchProcess):  # it is dead already; see ``_announce``
            for child in psutil.Process(self._process.pid).children():
                if child.pid not in self._forked:
                    kill(family(identity(child.pid)))
        self._process.kill()
        self._process.wait()

    def _has_answer(self, seconds: float) -> bool:
        return bool(select.select([self._answers], [], [], seconds)[0])

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
