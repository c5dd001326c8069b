"""The part of the web process that keeps a worker: `python -m tests.chaos.keeper HOME WORD ...`."""

from __future__ import annotations

import sys
import time

from jobs.home import Home
from jobs.runner.service import keep_worker

SECONDS = 1.0

if __name__ == "__main__":
    place = Home(sys.argv[1])
    while True:
        keep_worker(place, *sys.argv[2:])
        time.sleep(SECONDS)
