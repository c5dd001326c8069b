"""What lies on the disk is its owner's alone, and what is packed for a download is what was meant."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from jobs.home import Home, is_ours, mend_modes
from jobs.store.status import FINISHED
from jobs.store.store import Store
from studio.web import packing
from tests.jobs.conftest import LITTLE, PROJECT, end_home, wait_for
from tests.security.studio_client import make_client
from tests.studio.stored import Stored


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> list[str]:
    """Everything below that somebody else could do something with."""
    found = [folder, *folder.rglob("*")]
    return [
        f"{path.relative_to(folder)} {mode(path):o}" for path in found if not path.is_symlink() and mode(path) & 0o077
    ]


def wide_home(root: Path) -> Path:
    """A home as an earlier version left it under a careless umask."""
    deep = root / "runs" / "1" / "adapter"
    deep.mkdir(parents=True)
    for file in (
        root / "studio.db",
        root / "studio.db-wal",
        root / "worker.log",
        deep / "adapter_model.safetensors",
        root / "runs" / "1" / "log.txt",
    ):
        file.write_text("x")
        file.chmod(0o666)
    for folder in (root, root / "runs", root / "runs" / "1", deep):
        folder.chmod(0o777)
    return root


# Modes


def test_a_home_that_was_open_to_others_is_closed_at_the_start(tmp_path: Path) -> None:
    root = wide_home(tmp_path / "home")
    Home(root)
    assert open_to_others(root) == []
    assert mode(root / "studio.db") == 0o600 and mode(root / "runs" / "1" / "adapter") == 0o700


def test_the_files_at_the_top_are_looked_at_every_time_and_the_deep_ones_once(tmp_path: Path) -> None:
    root = wide_home(tmp_path / "home")
    Home(root)
    (root / "studio.db").chmod(0o644)
    (root / "runs" / "1" / "log.txt").chmod(0o644)
    Home(root)
    assert mode(root / "studio.db") == 0o600 and mode(root / "runs" / "1" / "log.txt") == 0o644


def test_links_in_a_home_are_never_followed(tmp_path: Path) -> None:
    root, outside = wide_home(tmp_path / "home"), tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    for path in (outside, outside / "file"):
        path.chmod(0o755)
    (root / "runs" / "link").symlink_to(outside)
    (root / "runs" / "1" / "file").symlink_to(outside / "file")
    (root / "worker.lock").symlink_to(outside / "file")
    Home(root)
    assert (mode(outside), mode(outside / "file")) == (0o755, 0o755)


def test_what_is_not_the_studios_own_keeps_its_modes(tmp_path: Path) -> None:
    root = wide_home(tmp_path / "home")
    (root / "bin").mkdir()
    (root / "bin" / "tool").write_text("#!/bin/sh")
    for path in (root / "bin", root / "bin" / "tool"):
        path.chmod(0o755)
    Home(root)
    assert (mode(root / "bin"), mode(root / "bin" / "tool"), mode(root)) == (0o755, 0o755, 0o777)
    assert mode(root / "studio.db") == 0o600


def test_a_pipe_in_a_home_stops_nothing(tmp_path: Path) -> None:
    root = wide_home(tmp_path / "home")
    os.mkfifo(root / "runs" / "pipe", 0o666)
    mend_modes(root)
    assert mode(root / "studio.db") == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_owners_file_is_left_alone(tmp_path: Path) -> None:
    root = wide_home(tmp_path / "home")
    os.chown(root / "worker.log", 65_534, 65_534)
    Home(root)
    assert mode(root / "worker.log") == 0o666 and mode(root / "studio.db") == 0o600


def test_whatever_a_process_writes_is_private(tmp_path: Path) -> None:
    """A command, a worker, the shim and a job, all started with no umask at all."""
    root = tmp_path / "home"
    home_words = ["--home", str(root)]

    def start(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *words, *home_words], cwd=PROJECT, umask=0, stdout=subprocess.DEVNULL
        )

    listed = subprocess.run(
        [sys.executable, "-m", "studio", *home_words, "runs", "list"],
        cwd=PROJECT,
        umask=0,
        timeout=120,
        capture_output=True,
    )
    assert listed.returncode == 0, listed.stderr
    store = Store(Home(root))
    worker = start("jobs.runner.worker", "--tasks", LITTLE, "--executor", "spawn")
    try:
        job = store.queue.submit("map", {"do": "well"})
        wait_for(lambda: store.queue.get(job.id).status in FINISHED)
        assert (store.home.job(job.id, 1) / "exit.json").exists() and (
            store.home.job(job.id, 1) / "result.json"
        ).exists()
        assert open_to_others(root) == []
    finally:
        worker.terminate()
        worker.wait(timeout=60)
        end_home(store.home)


def test_everything_at_the_top_of_a_home_is_declared(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with make_client(home):
        Store(home).chats.create()
        found = {path.name for path in home.root.iterdir()}
    assert all(is_ours(name) for name in found), "name it in jobs/home.py, or its modes are never mended"


# Downloads


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Store(Home(tmp_path / "home")))


def names_in(client: TestClient, address: str) -> dict[str, bytes]:
    reply = client.get(address)
    assert reply.status_code == 200, reply.text
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    return {name: archive.read(name) for name in archive.namelist()}


def test_an_adapters_archive_follows_no_link(stored: Stored, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.safetensors").write_text("secret")
    run = stored.run(stored.corpus())
    folder = stored.adapter(run, ["adapter_model.safetensors"])
    (folder / "adapter_config.json").symlink_to(outside / "secret.safetensors")
    (folder / "more.safetensors").symlink_to(outside / "secret.safetensors")
    (folder / "linked").symlink_to(outside)
    with make_client(stored.home) as client:
        assert names_in(client, f"/ui/runs/{run.id}/adapter.zip") == {
            "adapter_model.safetensors": b"this is adapter_model.safetensors"
        }


def test_an_adapter_folder_that_is_a_link_is_not_packed(stored: Stored, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "run.json").write_text("secret")
    run = stored.run(stored.corpus())
    stored.home.run(run.id).mkdir(parents=True)
    (stored.home.run(run.id) / "adapter").symlink_to(outside)
    with make_client(stored.home) as client:
        reply = client.get(f"/ui/runs/{run.id}/adapter.zip")
        assert reply.status_code == 400 and "no longer there" in reply.json()["detail"]


def test_a_pipe_in_an_adapter_folder_is_passed_over(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    folder = stored.adapter(run, ["run.json"])
    os.mkfifo(folder / "README.md")
    with packing.pack(folder) as packed:
        assert zipfile.ZipFile(packed).namelist() == ["run.json"]


def test_a_file_that_becomes_a_link_while_it_is_packed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run.json").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError), packing.open_plain(tmp_path / "run.json"):
        pass


def test_a_copied_export_follows_no_link_and_holds_every_file(stored: Stored, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "vocab.txt").write_text("words")
    (tmp_path / "secret").write_text("secret")
    (folder / "model" / "config.json").symlink_to(tmp_path / "secret")
    packing.copy(folder, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()] == ["vocab.txt"]


def test_a_copy_never_goes_into_a_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(UserError, match="Name another folder"):
        packing.copy(tmp_path / "export", tmp_path / "export")
