"""Real processes of the studio over a folder: commands, the web process, and their end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil

from jobs.home import Home
from jobs.runner.processes import family, kill
from jobs.store.store import Store
from studio.cli.main import main

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}


class Commands:
    """``python -m studio`` over one folder: in this process, since a start costs over a second, or in its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, as ``python -m studio`` does with these words."""
        line = ["--home", str(self.home), *map(str, words)]
        said, errors, status = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(errors):
            try:
                main(line)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        return subprocess.CompletedProcess(line, status, said.getvalue(), errors.getvalue())

    def process(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run one command to its end in a process of its own."""
        line = [sys.executable, "-m", "studio", "--home", str(self.home), *map(str, words)]
        return subprocess.run(line, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)

    def json(self, *words: object) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def end(self) -> None:
        """End the worker that the commands have started, with its jobs."""
        for worker in Store(Home(self.home)).workers.seen():
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
