"""``python app.py``: a real process that listens, serves, ends, and says what is wrong."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hydralora.errors import UserError
from jobs.home import Home
from jobs.store.store import Store
from studio.cli import serve as app
from studio.doctor import examine
from tests.studio.commands import start_app

PAGES = ("/", "/corpora", "/new-run", "/run", "/chat", "/endpoint", "/tour")
Start = Callable[..., tuple[subprocess.Popen[str], httpx.Client]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the studio without a worker on a free port; gives the process and a client that has its token."""
    begun: list[subprocess.Popen[str]] = []

    def begin(home: Path, *words: object) -> tuple[subprocess.Popen[str], httpx.Client]:
        process = start_app(home, "--port", 0, "--no-worker", *words)
        begun.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)/\?token=(\S+)", line)
        assert found, line
        headers = {"Authorization": f"Bearer {found[2]}"}
        return process, httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", headers=headers, timeout=30)

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> str:
    """Ask a process to end as a shell does; gives what it said on standard error."""
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[1]
    assert process.returncode in (0, -signal.SIGTERM)
    return said


def test_a_started_studio_serves_every_page_and_ends_when_asked(tmp_path: Path, start: Start) -> None:
    process, client = start(tmp_path / "home")
    assert {path: client.get(path).status_code for path in PAGES} == dict.fromkeys(PAGES, 200)
    assert "Traceback" not in end(process)
    with pytest.raises(httpx.TransportError):
        client.get("/")


def test_a_second_start_on_the_same_folder_finds_what_was_kept(tmp_path: Path, start: Start) -> None:
    process, client = start(tmp_path / "home")
    made = client.post("/ui/chat/conversations").json()
    end(process)
    _, again = start(tmp_path / "home")
    assert again.get("/ui/chat/start").json()["conversations"] == [made]


def test_a_killed_studio_starts_again(tmp_path: Path, start: Start) -> None:
    process, _ = start(tmp_path / "home")
    process.kill()
    process.wait()
    _, again = start(tmp_path / "home")
    assert again.get("/ui/health").json()["ok"]


def test_the_folder_is_private(tmp_path: Path, start: Start) -> None:
    start(tmp_path / "home")
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_without_a_worker_no_worker_is_started(tmp_path: Path, start: Start) -> None:
    _, client = start(tmp_path / "home")
    assert client.get("/ui/health").json()["workers"] == 0
    assert Store(Home(tmp_path / "home")).workers.seen() == []


def test_a_base_named_at_the_start_is_on_the_list(tmp_path: Path, start: Start) -> None:
    start(tmp_path / "home", "--base", tmp_path / "my-base")
    assert str(tmp_path / "my-base") in [base.folder for base in Store(Home(tmp_path / "home")).bases.all()]


# What is wrong; the same process, called as a function


def test_a_taken_port_is_named_with_a_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert app.main(["--port", str(port), "--home", str(tmp_path), "--no-worker"]) == 2
    said = capsys.readouterr().err
    assert f"Port {port} on 127.0.0.1 cannot be used" in said and "--port" in said


def test_a_taken_port_ends_the_process_with_status_two(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start_app(tmp_path / "home", "--port", port, "--no-worker")
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and str(port) in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("port", [-1, 65_536, 10**9])
def test_a_port_out_of_range_gives_a_sentence(port: int) -> None:
    with pytest.raises(UserError, match=f"Port {port} on 127.0.0.1 cannot be used"):
        app.bind("127.0.0.1", port)


def test_an_address_of_another_machine_gives_a_sentence() -> None:
    with pytest.raises(UserError, match=r"on 192\.0\.2\.1 cannot be used"):
        app.bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "gpu-box.lan"])
def test_the_network_is_not_let_in_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert app.main(["--host", host, "--port", "0", "--home", str(tmp_path / "home")]) == 2
    assert "--allow-network" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "host, inside",
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
    ],
)
def test_loopback_addresses_are_known(host: str, inside: bool) -> None:
    assert app.is_loopback(host) == inside


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_studio_for_this_machine_answers_to_no_other_name(host: str) -> None:
    assert app.allowed_hosts(host, []) == ["127.0.0.1", "localhost", "[::1]"]


def test_a_folder_that_is_a_file_gives_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert app.main(["--home", str(tmp_path / "file"), "--port", "0", "--no-worker"]) == 2
    assert f"The folder {tmp_path / 'file'} cannot be used" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_database_that_is_none_gives_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "studio.db").write_text("this is no database, but somebody's notes" * 100)
    assert app.main(["--home", str(tmp_path), "--port", "0", "--no-worker"]) == 2
    said = capsys.readouterr().err
    assert "cannot be opened" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "words, database",
    [
        ([], "postgresql+psycopg://somebody:secret@127.0.0.1:1/x"),
        ([], "mysql://x"),
        (["--executor", "ray", "--ray-address", "http://127.0.0.1:1"], ""),
        (["--artefacts", "s3:nowhere"], ""),
        (["--artefacts", "file:///proc/nowhere"], ""),
    ],
)
def test_what_cannot_be_used_leaves_no_home_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], database: str
) -> None:
    if database:
        monkeypatch.setenv("HYDRA_STUDIO_DATABASE", database)
    assert app.main(["--home", str(tmp_path / "new"), "--port", "0", "--no-worker", *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") <= 4 and "Traceback" not in said and "secret" not in said
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_of_a_database_that_cannot_be_used_and_makes_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_STUDIO_DATABASE", "postgresql+psycopg://somebody:secret@127.0.0.1:1/x")
    (found,) = [one for one in examine(tmp_path / "new", 0) if one.name == "database"]
    assert not found.ok and "cannot be opened" in found.found and "secret" not in found.found
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_of_the_web_process_is_left_out_of_no_other() -> None:
    code = "import os; from studio.web.footprint import keep_small; before = dict(os.environ); keep_small();"
    done = [sys.executable, "-c", f"{code} assert dict(os.environ) == before"]
    subprocess.run(done, cwd=Path(app.__file__).parents[2], check=True)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(word in said for word in ("--host", "--port", "--home", "--no-worker", "--allow-network"))
