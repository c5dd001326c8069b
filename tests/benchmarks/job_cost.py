"""What one job costs, in a process that is started as the worker starts it: seconds, and its own peak of memory.

``job_cost(home, kind, payload)`` runs it; ``python -m tests.benchmarks.job_cost FOLDER`` is that process. The peak is
``VmHWM`` of Linux, which begins with the program: ``ru_maxrss`` would count what the parent held when it forked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobs.home import Home
from jobs.runner.child import main as run_job
from jobs.runner.environment import job_environment

COST = "cost.json"


def job_cost(home: Home, kind: str, payload: dict[str, Any]) -> dict[str, float]:
    """Seconds from start to end of the process, those of the processor, and its peak in MiB.

    Raises:
        RuntimeError: When the job fails, with the end of its log.
    """
    home.attempts(1).mkdir(exist_ok=True)
    folder = home.job(1, len(list(home.attempts(1).iterdir())) + 1)
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps({"kind": kind, "payload": payload, "home": str(home.root)}), "utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.job_cost", str(folder)]
    began = time.perf_counter()
    with (folder / "log.txt").open("wb") as log:
        ended = subprocess.run(command, env=job_environment(kind), stdout=log, stderr=log, check=False)
    seconds = time.perf_counter() - began
    if ended.returncode:
        raise RuntimeError(f"{kind} ended with {ended.returncode}: {(folder / 'log.txt').read_text('utf-8')[-1_000:]}")
    cost: dict[str, float] = json.loads((folder / COST).read_text("utf-8"))
    return {"seconds": round(seconds, 2), **cost}


def peak_mib() -> int:
    """The most memory that this program has held at once."""
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    return round(int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024)


def main(folder: Path) -> int:
    """Run the job in ``folder`` and write down what it took."""
    code = run_job(folder)
    cost = {"processor": round(time.process_time(), 2), "peak_mib": peak_mib()}
    (folder / COST).write_text(json.dumps(cost), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
