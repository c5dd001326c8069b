"""Real processes of the studio over a folder: commands, the web process, and their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from jobs.home import Home
from jobs.processes import family, kill
from jobs.store import Store

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}


class Commands:
    """``python -m studio`` over one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        line = [sys.executable, "-m", "studio", "--home", str(self.home), *map(str, words)]
        return subprocess.run(line, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)

    def json(self, *words: object) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def end(self) -> None:
        """End the worker that the commands have started, with its jobs."""
        for worker in Store(Home(self.home)).queue.workers():
            kill(family(worker["process"]))
        for process in psutil.process_iter(["cmdline"]):  # a job that left its worker's family
            with suppress(psutil.NoSuchProcess):
                if str(self.home) in " ".join(process.info["cmdline"] or ()):
                    process.kill()


def start_app(home: Path, *words: object) -> subprocess.Popen[str]:
    """``python app.py`` in the background."""
    line = [sys.executable, str(PROJECT / "app.py"), "--home", str(home), *map(str, words)]
    return subprocess.Popen(
        line, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
