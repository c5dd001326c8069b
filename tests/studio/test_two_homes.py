"""Two machines with homes of their own over one PostgreSQL and one object store: each has a real worker, and whatever
one of them has made is there on the other, also where the one that trains is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.artefacts.address import VARIABLE
from jobs.home import DATABASE_VARIABLE
from jobs.store.clock import LEASE_SECONDS
from tests.chaos.world import PROJECT, World, until
from tests.jobs.test_artefacts import HAS_S3, NO_S3
from tests.jobs.test_machines import network, server
from tests.machines import NETWORK, Machine, Namespace
from tests.postgresql import Server

__all__ = ["network", "server"]  # fixtures of that file
PORT = 5_005  # of the object store
STEPS = ("--max-steps", 240, "--set", "train.save_every=20", "--set", "train.eval_every=0")
SMALL = ("--experts", 2, "--rank", 2, "--batch-size", 8, "--set", "train.max_length=64", "--set", "train.seed=1")
STORE = """
import os, sys
from moto.server import main
main(["-H", "0.0.0.0", "-p", sys.argv[1]])
"""
BUCKET = """
import s3fs
s3fs.S3FileSystem(skip_instance_cache=True).mkdir("studio")
"""
HASH = """
import sys
from hydralora.files import file_hash
from jobs.home import Home
print(file_hash(Home(sys.argv[1]).adapter(int(sys.argv[2])) / "adapter_model.safetensors"))
"""
LIST = """
import s3fs
print("\\n".join(s3fs.S3FileSystem(skip_instance_cache=True).find("studio/ours")))
"""


class Place:
    """A machine with a home of its own, and the commands that somebody gives there."""

    def __init__(self, world: World, network: Namespace, url: Any, number: int, root: Path) -> None:
        self.machine = Machine(world, network, url, number, root)
        self.machine.environment |= {
            VARIABLE: "s3://studio/ours",
            "AWS_ENDPOINT_URL": f"http://{NETWORK}.{number}.1:{PORT}",
            "AWS_ACCESS_KEY_ID": "studio",
            "AWS_SECRET_ACCESS_KEY": "never-told",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
        }

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        line = [*self.machine.space.inside, sys.executable, *map(str, words)]
        return subprocess.run(line, cwd=PROJECT, env=self.machine.environment, capture_output=True, text=True)

    def studio(self, *words: object) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self.run("-m", "studio", "--home", self.machine.root, *words, "--json")
        assert done.returncode == 0, done.stderr[-2_000:]
        return json.loads(done.stdout)

    def adapter(self, run: int) -> str:
        """The hash of a run's adapter, as it is found from here."""
        done = self.run("-c", HASH, self.machine.root, run)
        assert done.returncode == 0, done.stderr[-2_000:]
        return done.stdout


@pytest.fixture
def places(
    server: Server, network: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, Place, Place]]:
    """Two machines with nothing in common but the database and the object store."""
    if not HAS_S3:
        pytest.skip(NO_S3)
    name = server.new()
    monkeypatch.setenv(DATABASE_VARIABLE, server.socket_url(name))
    world = World(tmp_path / "looking-on")
    store = subprocess.Popen([*network.inside, sys.executable, "-c", STORE, str(PORT)], stderr=subprocess.DEVNULL)
    made: list[Place] = []
    try:
        for number in (1, 2):
            url = lambda far: server.url(name, host=far)  # noqa: E731
            made.append(Place(world, network, url, number, tmp_path / f"home-{number}"))
        until(lambda: made[0].run("-c", BUCKET).returncode == 0, 60, "the object store did not answer")
        for place in made:
            place.machine.start("--executor", "local")
        yield world, made[0], made[1]
    finally:
        for place in made:
            place.machine.close()
        store.kill()
        store.wait()
        world.store.engine.dispose()
        server.drop(name)


def start(place: Place, corpus: int) -> int:
    return int(place.studio("runs", "start", "--corpus", corpus, *STEPS, *SMALL)["run_id"])


@pytest.mark.long
@pytest.mark.timeout(1_200)  # two cores that others use too
def test_a_run_whose_machine_is_lost_ends_on_the_other_as_if_undisturbed(places: tuple[World, Place, Place]) -> None:
    world, one, other = places
    corpus = one.studio("corpora", "add", "one-voice")["corpus_id"]
    assert len(other.studio("corpora", "cluster", corpus, "--k", 3)["sizes"]) == 3
    undisturbed, run = start(one, corpus), start(other, corpus)
    until(lambda: world.store.runs.get(undisturbed).job.is_finished, 400, "the first run did not end")  # type: ignore[union-attr]
    until(lambda: world.store.runs.get(run).job.is_finished, 400, "the second run did not end")  # type: ignore[union-attr]
    lost = start(one, corpus)
    until(lambda: f"runs/{lost}/checkpoints" in one.run("-c", LIST).stdout, 300, "no checkpoint was sent")
    job = world.store.runs.get(lost).job
    assert job is not None
    host = str(world.store.queue.get(job.id).host).partition("/")[0]
    here, there = (one, other) if host == one.machine.name else (other, one)
    here.machine.die()
    until(lambda: world.store.queue.get(job.id).is_finished, LEASE_SECONDS + 300, "nobody took it up")
    shown = there.studio("runs", "show", lost)
    assert shown["status"] == "succeeded" and world.store.queue.get(job.id).attempt == 2
    assert (world.store.runs.get(lost).summary.resumed_from or 0) >= 20  # type: ignore[union-attr]
    here.machine.start("--executor", "local")
    for place in (here, there):
        assert place.studio("inspect", lost)  # by either worker
    assert len({place.adapter(number) for place in (one, other) for number in (undisturbed, run, lost)}) == 1
