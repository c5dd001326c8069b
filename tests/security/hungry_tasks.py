"""Tasks that take more than they are given, for tests of the limits around a job."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from hydralora.errors import StoppedError
from jobs.runner.child import Job


def _work(job: Job) -> dict[str, Any]:
    do = job.payload["do"]
    job.report(0.1, "under way")
    if do == "tell":
        mask = os.umask(0o077)
        return {"environment": dict(os.environ), "umask": mask, "core": resource.getrlimit(resource.RLIMIT_CORE)[0]}
    if "aside" in job.payload:
        (job.home.root / job.payload["aside"]).mkdir(parents=True)
        (job.folder / "unpacked").write_text(tempfile.mkdtemp())
    if do == "memory":
        kept = [bytearray(2**24) for _ in range(1000)]
        return {"taken": len(kept)}
    if do == "write":
        with (job.home.root / "large").open("wb") as file:
            for _ in range(64):
                file.write(bytes(2**20))
    if do == "abort":
        os.abort()
    if do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, 1); time.sleep(600)"])
        (job.folder / "grandchild").write_text(str(child.pid))
    while do == "spin":
        pass
    while do in ("wait", "deaf") and (do == "deaf" or not job.should_stop()):
        time.sleep(0.02)
    if do == "wait":
        raise StoppedError("Stopped as asked.")
    return {}


TASKS = dict.fromkeys(("ingest", "import", "cluster", "train", "map"), _work)
