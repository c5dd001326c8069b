"""A PostgreSQL server of our own, from Debian's package: one a session, and for each test a database that is a fresh
copy of an empty studio."""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from jobs.home import DATABASE_VARIABLE
from jobs.store.database import migrate

BINARIES = "/usr/lib/postgresql"  # a folder for each version below
ACCOUNT = "postgres"  # of the system: the server refuses to run as root
USER, PASSWORD = "studio", "p@ss word/%?"  # with all that an address must write otherwise
TEMPLATE = "empty_studio"
START_SECONDS = 60.0
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # of a file whose tests run over both
OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = [path.parent for path in Path(BINARIES).glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Server:
    """A running server.

    Args:
        programs: Folder of its programs.
        network: Pid of a process whose network it takes connections from, all of it; of this machine alone without.
        options: Settings in place of ours.
    """

    def __init__(self, programs: Path, network: int | None = None, options: dict[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
        self.port, self._names = _free_port(), itertools.count(1)
        who = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else None
        self._account: dict[str, Any] = {}
        if who is not None:
            os.chown(self.folder, who.pw_uid, who.pw_gid)
            self._account = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        words = ["--no-sync", "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8"]
        initdb = [programs / "initdb", "-D", self.folder / "data", *words, "--locale=C.UTF-8"]
        subprocess.run(initdb, check=True, **self._quiet(), **self._account)
        with (self.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all 0.0.0.0/0 scram-sha-256\n")
        places = {"listen_addresses": "*" if network else "127.0.0.1", "unix_socket_directories": str(self.folder)}
        chosen = OPTIONS | (options or {}) | places
        settings = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        command = [programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *settings]
        account = self._account
        if network is not None and who is not None:  # who enters a network must be root
            command = ["nsenter", f"--target={network}", "--net", f"-S{who.pw_uid}", f"-G{who.pw_gid}", *command]
            account = {}
        self._command, self._as = command, account
        self.start()

    def start(self) -> None:
        """Start it, again after a crash too, and wait until it answers."""
        self._process = subprocess.Popen(self._command, preexec_fn=_end_with_us, **self._quiet(), **self._as)
        self._wait()

    def crash(self) -> None:
        """Kill all its processes; what it kept stays."""
        processes = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(processes, timeout=10)

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def _quiet(self) -> dict[str, Any]:
        log = (self.folder / "log.txt").open("ab")
        return {"cwd": self.folder, "stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OperationalError):
                return self.run("SELECT 1")
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log.txt").read_text())
            time.sleep(0.05)

    def url(self, database: str = "postgres", **more: Any) -> str:
        """Address of a database; fields of ``sqlalchemy.URL`` in place of ours."""
        fields = {"username": USER, "password": PASSWORD, "host": "127.0.0.1", "port": self.port, **more}
        address = URL.create("postgresql+psycopg", database=database, **fields)
        return address.render_as_string(hide_password=False)

    def socket_url(self, database: str = "postgres") -> str:
        """The same by the server's socket in the file system, which every network reaches."""
        return self.url(database, host=None, port=None, query={"host": str(self.folder), "port": str(self.port)})

    def run(self, statement: str, database: str = "postgres") -> None:
        """Carry out a statement that takes no transaction."""
        engine = create_engine(self.socket_url(database), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def new(self, template: str = "template0", more: str = "") -> str:
        """Name of a new database."""
        name = f"studio_{next(self._names)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} {more}")
        return name

    def drop(self, name: str) -> None:
        """Delete a database, whoever is connected."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """End it at once, or as another signal says, and delete what it kept."""
        self._process.send_signal(number)
        self._process.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)


def _end_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG: no server outlives a session that was killed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """The session's server; tests that need it are skipped where none is installed."""
    programs = binaries()
    if programs is None:
        pytest.skip(f"no PostgreSQL server below {BINARIES}: apt install postgresql")
    pytest.importorskip("psycopg", reason="no driver: pip install .[postgres]")
    server = Server(programs)
    try:
        server.run(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        migrate(server.url(TEMPLATE))
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a test's homes keep their rows: "sqlite", in a file of each, or "postgresql", in one fresh database."""
    kind = getattr(request, "param", "sqlite")
    with kept_in(kind, request) as url:
        if url:
            monkeypatch.setenv(DATABASE_VARIABLE, url)
        else:
            monkeypatch.delenv(DATABASE_VARIABLE, raising=False)
        yield kind


@contextmanager
def kept_in(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a fresh database of a kind; empty where every home has its own."""
    if kind == "sqlite":
        yield ""
        return
    server: Server = request.getfixturevalue("postgresql")
    name = server.new(TEMPLATE)
    yield server.url(name)
    server.drop(name)
