"""Tasks that behave well and badly, for tests of the worker."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import Any

from hydralora.errors import StoppedError, UserError
from jobs.runner.child import Job

# A program that leaves session, parent and folder, as a server does that goes into the background.
DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
with open(sys.argv[1] + ".part", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""


def _work(job: Job) -> dict[str, Any]:
    do, payload = job.payload["do"], job.payload
    job.report(0.1, "under way")
    if do == "refuse":
        raise UserError("Row 3: `answer` is empty. Fill it.")
    if do == "bug":
        raise KeyError("something nobody thought of")
    if do == "memory":
        raise MemoryError
    if do == "disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if do == "parent":
        child = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, 1); time.sleep(600)"])
        (job.folder / "grandchild").write_text(str(child.pid))
    if do == "leave behind":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (job.folder / "grandchild").write_text(str(child.pid))
    if do == "daemon":
        environment = {} if payload.get("bare") else None  # without a mark in it
        command = [sys.executable, "-c", DAEMON, str(job.folder / "grandchild")]
        subprocess.run(command, check=True, env=environment)
        _wait(job, deaf=False)
    if do == "once interrupted" and (job.home.root / "interrupted").exists():
        return {"done": do}
    if do == "once interrupted":
        (job.home.root / "interrupted").touch()
    if do in ("deaf", "parent", "wait", "once interrupted"):
        _wait(job, deaf=do == "deaf")
    if do == "steps":
        _steps(job, payload)
    return {"done": do}


def _wait(job: Job, *, deaf: bool) -> None:
    while deaf or not job.should_stop():
        time.sleep(0.02)
    raise StoppedError("Stopped as asked.")


def _steps(job: Job, payload: dict[str, Any]) -> None:
    """Numbers for steps 1 to ``count``; dies at step ``dies_at`` of its first attempt."""
    begin = 1
    mark = job.home.root / "reached"
    if mark.exists():
        begin = int(mark.read_text()) + 1
    for step in range(begin, payload["count"] + 1):
        job.step(step, {"loss": 1.0 / step})
        if step == payload.get("dies_at") and begin == 1:
            mark.write_text(str(step - 2))  # its last checkpoint is older than its last step
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(payload.get("pause", 0.0))


TASKS = {"map": _work, "train": _work, "push": _work}
