"""The log of a worker and of a job's process: lines with the time of day, on standard output, which is a file."""

from __future__ import annotations

import logging
import sys


def begin_log() -> None:
    """Write what the studio reports, and the warnings of everybody else."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    for name in ("jobs", "hydralora"):
        logging.getLogger(name).setLevel(logging.INFO)
