"""The whole thread with the web process and a worker: over PostgreSQL, and in a folder whose name means other things in
an address, a pattern or a format."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from jobs.home import Home
from jobs.store.store import Store
from tests.jobs.conftest import end_home
from tests.studio.commands import PROJECT, Commands
from tests.studio.conftest import wait_for

ODD = "my home ?mode=ro&x=1 #2 100% %41 [a-z]* {0} ü"
SETTINGS = ("--max-steps", 4, "--experts", 2, "--rank", 2, "--batch-size", 4, "--set", "train.max_length=48")


class Web:
    """``python app.py`` over a home, with its worker; killed and started again at will."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        line = [sys.executable, str(PROJECT / "app.py"), "--home", str(self.home), "--port", "0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(line, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+:(\d+)/\?token=(\S+)", self.process.stdout.readline())
        assert found
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=60)
        self.client.headers["Authorization"] = f"Bearer {found[2]}"
        wait_for(self._answers, 60)

    def _answers(self) -> bool:
        with suppress(httpx.ConnectError):
            return bool(self.client.get("/ui/health").json()["ok"])
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def place(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[Path]:
    """A home that processes work on."""
    name = ODD if database == "sqlite" else "home"
    yield tmp_path / name
    end_home(Home(tmp_path / name))


@pytest.mark.long
@pytest.mark.timeout(1_200)  # two cores that others use too
@pytest.mark.databases
def test_a_sample_is_imported_clustered_and_trained_on_though_the_web_process_is_killed(place: Path) -> None:
    web, studio = Web(place), Commands(place)
    try:
        corpus = studio.json("corpora", "add", "one-voice")["corpus_id"]
        clusters = studio.json("corpora", "cluster", corpus, "--k", 3)
        assert sum(clusters["sizes"]) > 100 and len(clusters["words"]) == 3
        run = studio.json("runs", "start", "--corpus", corpus, *SETTINGS)["run_id"]
        web.kill()
        done = studio.json("runs", "show", run) if _is_done(place, run) else {}
        assert done["status"] == "succeeded" and done["summary"]["steps"] == 4
        web.start()
        metrics = web.client.get(f"/ui/runs/{run}/metrics.csv").text.splitlines()
        assert [line.split(",")[0] for line in metrics[1:]] == ["0", "1", "2", "3", "4"] or len(metrics) >= 5
        assert web.client.get(f"/ui/runs/{run}/adapter.zip").content[:2] == b"PK"
        assert web.client.get("/ui/jobs").json()["failed"] == []
        looked = studio.json("inspect", run)  # a look that failed is a sentence
        assert len(looked) > 3 and not any(isinstance(one, str) for one in looked.values())
        assert not [path for path in place.parent.iterdir() if path != place and path.name.startswith("my home")]
    finally:
        web.kill()


def _is_done(place: Path, run: int) -> bool:
    store = Store(Home(place))
    return bool(wait_for(lambda: store.runs.get(run).job.is_finished, 240))  # type: ignore[union-attr]


@pytest.mark.timeout(600)
@pytest.mark.databases
def test_two_web_processes_over_one_database_tell_the_same_and_one_goes_on_without_the_other(place: Path) -> None:
    one, other, studio = Web(place), Web(place), Commands(place)
    try:
        corpus = studio.json("corpora", "add", "one-voice")["corpus_id"]
        run = studio.json("runs", "start", "--corpus", corpus, *SETTINGS)["run_id"]
        told = [web.client.get("/ui/jobs").json() for web in (one, other)]
        open_ = [{job["id"] for job in (*tray["running"], *tray["waiting"])} for tray in told]
        assert open_[0] == open_[1] and open_[0]
        one.kill()
        assert _is_done(place, run)
        assert other.client.get(f"/ui/runs/{run}/adapter.zip").content[:2] == b"PK"
        assert len(Store(Home(place)).workers.seen()) == 1
    finally:
        for web in (one, other):
            if web.process.poll() is None:
                web.kill()
