"""Machines that share a database and a folder: each with a network and a host name of its own, on this one.

They are namespaces of Linux: what a machine sends goes over a cable that can be pulled out and put in again. Only root
may make them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from jobs.home import DATABASE_VARIABLE, MACHINES
from jobs.runner.cgroup import end_group, groups_of, processes_of
from jobs.runner.processes import Identity, is_alive
from tests.chaos.world import PROJECT, WORDS, World, until
from tests.postgresql import Server

NETWORK = "10.77"  # the first half of all addresses


class Namespace:
    """A network of its own, and a host name, kept by a process that sleeps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._keeper = subprocess.Popen(["unshare", "--net", "--uts", "sleep", "infinity"])
        mine = os.readlink("/proc/self/ns/net")
        until(lambda: self._network() not in ("", mine), 10, "no network was made")
        self.run("hostname", name)
        self.run("ip", "link", "set", "lo", "up")

    def _network(self) -> str:
        with suppress(OSError):
            return os.readlink(f"/proc/{self.pid}/ns/net")
        return ""

    @property
    def pid(self) -> int:
        """Of the process that keeps it."""
        return self._keeper.pid

    @property
    def inside(self) -> list[str]:
        """The words before a command that is to run there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts"]

    def run(self, *words: str) -> None:
        """Run a command there to its end."""
        subprocess.run([*self.inside, *words], check=True)

    def close(self) -> None:
        """Let it go; what still runs there is not ended."""
        self._keeper.kill()
        self._keeper.wait()


class Machine:
    """A machine with a worker over a shared folder, or its own, at the end of a cable to the server's network."""

    def __init__(self, world: World, server: Namespace, url: Any, number: int, home: Path | None = None) -> None:
        self.root = home or world.home.root
        self.name, self._server, self._cable = f"node-{number}", server, f"cable{number}"
        self.world, self.space = world, Namespace(self.name)
        far, near = f"{NETWORK}.{number}.1", f"{NETWORK}.{number}.2"
        end = ["peer", "name", "eth0", "netns", str(self.space.pid)]
        server.run("ip", "link", "add", self._cable, "type", "veth", *end)
        server.run("ip", "addr", "add", f"{far}/24", "dev", self._cable)
        self.space.run("ip", "addr", "add", f"{near}/24", "dev", "eth0")
        self.space.run("ip", "link", "set", "eth0", "up")
        self.plug_in()
        self.environment = {**world.environment, DATABASE_VARIABLE: url(far)}
        self.worker: subprocess.Popen[bytes] | None = None

    def pull_out(self) -> None:
        """From now on nothing of it arrives at the database, and nothing comes back."""
        self._server.run("ip", "link", "set", self._cable, "down")

    def plug_in(self) -> None:
        """The cable is in its place again."""
        self._server.run("ip", "link", "set", self._cable, "up")

    def start(self, *words: str) -> None:
        """Start its worker and wait until that has signed in."""
        line = [sys.executable, "-m", "jobs.runner.worker", "--home", str(self.root), *(words or WORDS)]
        with (self.world.home.root / f"{self.name}.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [*self.space.inside, *line], cwd=PROJECT, env=self.environment, stdout=log, stderr=log
            )
        until(lambda: self._is_signed_in(), 90, f"the worker of {self.name} did not sign in")

    def _is_signed_in(self) -> bool:
        assert self.worker is not None
        return any(worker["process"]["pid"] == self.worker.pid for worker in self.world.store.workers.seen())

    def kill_worker(self) -> None:
        """SIGKILL; what it has started goes on."""
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait()

    def processes(self) -> list[psutil.Process]:
        """All that lives there, without what keeps it."""
        found = []
        mine = os.readlink(f"/proc/{self.space.pid}/ns/net")
        for process in psutil.process_iter():
            with suppress(OSError, psutil.NoSuchProcess):
                if os.readlink(f"/proc/{process.pid}/ns/net") == mine and process.pid != self.space.pid:
                    found.append(process)
        return found

    def die(self) -> None:
        """Everything there is killed at once, as by a cut of the power, and its kernel's groups are gone with it."""
        mine = self.processes()
        ids = {process.pid for process in mine}
        groups = [group for group, *_ in groups_of(self.root) if ids & set(processes_of(group))]
        for process in mine:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.worker is not None:
            self.worker.wait()
        for group in groups:
            until(lambda group=group: end_group(group), 10, f"a group of {self.name} did not end")

    def has(self, who: Identity | None) -> bool:
        """Whether this process lives there."""
        return is_alive(who) and who is not None and any(one.pid == who["pid"] for one in self.processes())

    @property
    def folder(self) -> Path:
        """Where it keeps what is its own."""
        return self.root / MACHINES / self.name

    def close(self) -> None:
        """End everything there."""
        self.die()
        self.space.close()


@contextmanager
def machines(server: Server, network: Namespace, name: str, world: World, number: int) -> Iterator[list[Machine]]:
    """Some machines at a database of a server, with nothing running yet."""
    made: list[Machine] = []
    try:
        for index in range(1, number + 1):
            made.append(Machine(world, network, lambda far: server.url(name, host=far), index))
        yield made
    finally:
        for machine in made:
            machine.close()
        world.close()


def can_separate() -> bool:
    """Whether this account may make networks and host names."""
    try:
        done = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
