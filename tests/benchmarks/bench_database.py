"""How much the store does in a second over a file and over PostgreSQL: `python -m tests.benchmarks.bench_database`.

Eight writers with a connection each, threads of one process: what a database does for eight workers, without what it
costs to start them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jobs.home import DATABASE_VARIABLE, Home
from jobs.runner.lease import Lease
from jobs.runner.running import write_spec
from jobs.store.store import Store
from jobs.store.tables import RunRow
from tests.postgresql import Server, binaries

WRITERS = 8
JOBS, BATCHES, LOOKS = 400, 400, 400
ROWS = 50  # steps of a batch


def per_second(do: Callable[[int], Any], count: int) -> float:
    """How often ``do`` is done in a second by all writers together."""
    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as crew:
        list(crew.map(do, range(count)))
    return round(count / (time.monotonic() - began), 1)


def measure(root: Path) -> dict[str, float]:
    """Rates of one database."""
    store = Store(Home(root))
    for _ in range(JOBS):
        store.queue.submit("train", run_id=1)
    with store.runs._rows.writing() as session:
        session.add(RunRow(name="run", config={}))
    jobs: list[Any] = []
    claims = per_second(lambda number: jobs.append(store.attempts.claim(f"w{number % WRITERS}", "h", "heavy")), JOBS)
    assert len({job.id for job in jobs}) == JOBS
    steps = [{"run_id": 1, "step": step, "values": {"loss": 1.0}} for step in range(ROWS)]
    leases = [Lease(write_spec(store.home, job, None), os.environ.get(DATABASE_VARIABLE, "")) for job in jobs[:WRITERS]]
    return {
        "claims a second": claims,
        f"batches of {ROWS} steps a second": per_second(
            lambda n: store.runs.add_steps(
                jobs[n % JOBS], [{**one, "step": one["step"] + ROWS * n} for one in steps], n
            ),
            BATCHES,
        ),
        "renewals of a lease a second": per_second(lambda n: leases[n % WRITERS].renew(), BATCHES),
        "looks at what has changed a second": per_second(lambda n: store.changes.stamp(["all", "run-1"]), LOOKS),
    }


def main() -> None:
    """Measure both, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = binaries()
    server = Server(programs) if programs else None
    found = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            found["SQLite"] = measure(Path(folder) / "file")
            if server is not None:
                os.environ[DATABASE_VARIABLE] = server.url(server.new())
                found["PostgreSQL"] = measure(Path(folder) / "shared")
    finally:
        if server is not None:
            server.stop()
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
