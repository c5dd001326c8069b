"""Runs one command and leaves its end behind: `python -m jobs.shim FOLDER COMMAND ...`.

A restarted worker cannot wait for a process that is not its child. So this small parent stays,
ignores TERM (which reaches its child through the process group), and writes ``exit.json`` when
the child has ended. No ``exit.json`` and no process means the whole group was killed.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path


def run(folder: Path, command: list[str]) -> int:
    """Run ``command`` to its end and record return code, seconds and peak memory (bytes)."""
    began = time.time()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = child.wait()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    aside = folder / "exit.json.part"
    with aside.open("w") as file:
        json.dump({"code": code, "seconds": time.time() - began, "peak_bytes": peak}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, folder / "exit.json")
    return code


if __name__ == "__main__":
    sys.exit(1 if run(Path(sys.argv[1]), sys.argv[2:]) else 0)
