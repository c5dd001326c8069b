"""The log of a worker and of a job's process: lines with the time of day, on standard output, which is a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

MOST_LOG, KEPT_LOG = 16 * 2**20, 4 * 2**20  # bytes of an attempt's log, and what is kept of a longer one
LEFT_OUT = b"(What came before was left out: a log is kept up to 16 MiB.)\n"


def begin_log() -> None:
    """Write what the studio reports, and the warnings of everybody else."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    for name in ("jobs", "hydralora"):
        logging.getLogger(name).setLevel(logging.INFO)


def cap_log(file: Path) -> None:
    """Leave the end of a log that has grown too long; whoever writes to it, by appending, goes on behind that.

    A line that is printed in this very moment may be lost.
    """
    if not file.exists() or file.stat().st_size <= MOST_LOG:
        return
    with file.open("r+b") as log:
        log.seek(-KEPT_LOG, 2)
        log.readline()
        kept = log.read()
        log.seek(0)
        log.truncate()
        log.write(LEFT_OUT + kept)
