"""A Ray cluster of several nodes on this machine, each of which can be killed with all that runs on it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

STORE = "--object-store-memory=80000000"
SECONDS = 90.0
OF_CLUSTER = ("IDLE", "JobSupervisor", "DashboardAgent", "RuntimeEnvAgent", "_AutoscalingCoordinatorActor")


class RayNodes:
    """The first node is the head; every node has so many processors. All of it is ended by ``close``."""

    def __init__(self, folder: Path, others: int, cpus: int = 1) -> None:
        self.folder, self.nodes, self.cpus = folder, list[subprocess.Popen[bytes]](), cpus
        gcs, self.port = free_port(), free_port()
        dashboard = [f"--dashboard-port={self.port}", "--dashboard-host=127.0.0.1", f"--port={gcs}"]
        self._start("--head", *dashboard, f"--ray-client-server-port={free_port()}")
        self._wait(1)
        for number in range(others):
            self._start(f"--address=127.0.0.1:{gcs}")
            self._wait(number + 2)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self, *words: str) -> None:
        cpus = f"--num-cpus={self.cpus}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", cpus, STORE, *words]
        ports = [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}"]
        with (self.folder / "ray.log").open("ab") as log:
            self.nodes.append(
                subprocess.Popen(
                    [*command, *ports, "--node-ip-address=127.0.0.1", "--disable-usage-stats"],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
                    start_new_session=True,
                )
            )

    def _wait(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while self.alive() < count:
            assert time.monotonic() < deadline and self.nodes[-1].poll() is None, self.log()
            time.sleep(0.3)

    def log(self) -> str:
        return (self.folder / "ray.log").read_text("utf-8", "replace")[-3_000:]

    def alive(self) -> int:
        """How many nodes live, as Ray says."""
        with suppress(httpx.HTTPError, ValueError):
            found = httpx.get(f"{self.address}/nodes?view=summary", timeout=10.0, trust_env=False).json()
            return sum(node["raylet"].get("state") == "ALIVE" for node in found["data"]["summary"])
        return 0

    def works_on(self, number: int) -> list[str]:
        """Folders of the attempts that a node works on."""
        return [line[3] for _, line in self._lines(number) if line[1:3] == ["-m", "jobs.runner.reaper"]]

    def trains_on(self, number: int) -> list[psutil.Process]:
        """Processes of a node that train along in a run."""
        return [process for process, line in self._lines(number) if "RayTrainWorker" in " ".join(line)]

    def actors(self, number: int) -> list[str]:
        """What Ray Train has on a node for one training, by name; one actor of the cluster's stays for all."""
        names = [line[0].removeprefix("ray::") for _, line in self._lines(number) if line and "ray::" in line[0]]
        return [name for name in names if not name.startswith(OF_CLUSTER)]

    def _lines(self, number: int) -> list[tuple[psutil.Process, list[str]]]:
        """Processes of a node with what they were started by."""
        found = []
        for process in self._of(number):
            with suppress(psutil.Error):  # it has ended meanwhile
                found.append((process, process.cmdline()))
        return found

    def _of(self, number: int) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            node = psutil.Process(self.nodes[number].pid)
            return [node, *node.children(recursive=True)]
        return []

    def kill(self, number: int) -> None:
        """As when the plug is pulled: every process of the node ends at once."""
        for process in self._of(number):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes[number].wait()

    def close(self) -> None:
        for number in reversed(range(len(self.nodes))):
            with suppress(psutil.NoSuchProcess):
                self.kill(number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
