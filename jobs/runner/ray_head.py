"""A Ray of this machine's own, where `--executor ray` names no cluster: nothing has to be set up for it.

`python -m jobs.runner.ray_head HOME`, started by the worker. It starts Ray with a token, listening for its dashboard on
this machine alone, writes down where it is, and ends all of it once nothing has asked for it for ``IDLE_SECONDS`` and
no job works there. It outlives the worker, as jobs do.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from hydralora.files import write_json
from jobs.artefacts.address import VARIABLE as ARTEFACTS_VARIABLE
from jobs.home import private_files
from jobs.runner.choice import UnreachableError, need
from jobs.runner.environment import PROJECT, job_environment
from jobs.runner.logs import begin_log
from jobs.runner.processes import (
    adopt_orphans_of_ours,
    die_with_parent,
    family,
    identity,
    is_alive,
    kill,
    start_detached,
)

log = logging.getLogger("jobs.runner.ray_head")  # under its own name also where it runs as a program
TOKEN, HEAD, WANTED, LOG = "token", "head.json", "wanted", "log.txt"
START_SECONDS = 90.0
IDLE_SECONDS = 120.0
STORE_BYTES = 100_000_000  # of Ray's object store, in which nothing of ours lies
_begun: dict[Path, subprocess.Popen[bytes]] = {}  # the last one started here for a home
PENDING_SECONDS = 30 * 24 * 3600  # that a submitted job may wait for room


def place_of(home: Path) -> Path:
    """Where the Ray of this machine says how it is reached; several machines may share a home."""
    return home / "ray" / (re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip(".") or "here")


def head_of(home: Path) -> dict[str, Any]:
    """Address and identity of the home's own Ray, where it is written down and lives."""
    with suppress(OSError, ValueError):
        found = json.loads((place_of(home) / HEAD).read_bytes())
        if isinstance(found, dict) and is_alive(found):
            return found
    return {}


def find_head(home: Path) -> str:
    """The address of the home's own Ray, which is started where it does not run.

    Raises:
        UnreachableError: While it comes up, and when it does not.
        UserError: When Ray is not installed.
    """
    place_of(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    (place_of(home) / WANTED).touch()
    if found := head_of(home):
        return str(found["address"])
    need("ray", "ray")
    child = _begun.get(home)
    if child is None or child.poll() is not None:
        if child is not None:
            log.warning("Ray of this machine has ended. Look into %s.", place_of(home) / LOG)
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        words = [sys.executable, "-m", "jobs.runner.ray_head", str(home)]
        _begun[home] = start_detached(words, place_of(home) / LOG, home, {**os.environ, "PYTHONPATH": path})
    raise UnreachableError("Ray of this machine is not up yet; its log lies in the folder `ray` of the home.")


def main(home: Path, cpus: int | None = None) -> int:
    """Start Ray, say where it is, and end it once nobody needs it; 1 where it did not start."""
    adopt_orphans_of_ours()
    private_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (place_of(home) / TOKEN).write_text(secrets.token_urlsafe(32), "ascii")
    (place_of(home) / TOKEN).chmod(0o600)
    ports = _free_ports(5)
    address = f"http://127.0.0.1:{ports[1]}"
    ray = subprocess.Popen(_command(ports, cpus), env=_environment(home), preexec_fn=die_with_parent)
    try:
        if not _comes_up(ray, home, address):
            return 1
        write_json(place_of(home) / HEAD, {**identity(), "address": address})
        while ray.poll() is None and not _is_idle(home, address):
            time.sleep(5.0)
    finally:
        (place_of(home) / HEAD).unlink(missing_ok=True)
        _end_all()
    return 0


def _command(ports: list[int], cpus: int | None) -> list[str]:
    gcs, dashboard, agent, client, metrics = ports
    here = "127.0.0.1"
    words = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    words += [f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}", f"--dashboard-host={here}"]
    words += [f"--node-ip-address={here}", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
    words += [f"--num-cpus={cpus}"] if cpus else []
    return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *words]


def _environment(home: Path) -> dict[str, str]:
    """What a job without secrets is given, and what makes Ray ask for a token."""
    waits = str(PENDING_SECONDS)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place_of(home) / TOKEN)}
    bare = {name: value for name, value in os.environ.items() if name != ARTEFACTS_VARIABLE}  # nor its credentials
    return {
        **job_environment("map", bare),
        **token,
        "RAY_JOB_START_TIMEOUT_SECONDS": waits,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _comes_up(ray: subprocess.Popen[bytes], home: Path, address: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and ray.poll() is None:
        if _jobs(home, address) is not None:
            return True
        time.sleep(0.3)
    log.error("Ray did not come up.")
    return False


def _jobs(home: Path, address: str) -> list[dict[str, Any]] | None:
    """The jobs of our Ray; None where it does not answer."""
    headers = {"Authorization": f"Bearer {(place_of(home) / TOKEN).read_text('ascii')}"}
    try:
        reply = httpx.get(f"{address}/api/jobs/", headers=headers, timeout=10.0, trust_env=False)
        return list(reply.raise_for_status().json())
    except (httpx.HTTPError, ValueError):
        return None


def _is_idle(home: Path, address: str) -> bool:
    """Whether nothing has asked for our Ray lately, and no job works there."""
    if time.time() - (place_of(home) / WANTED).stat().st_mtime < IDLE_SECONDS:
        return False
    return not any(job.get("status") in ("PENDING", "RUNNING") for job in _jobs(home, address) or ())


def _end_all() -> None:
    """End every process that Ray has started: all are our descendants by now."""
    me = os.getpid()
    while left := [member for member in family(identity()) if member["pid"] != me]:
        kill(left)
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


if __name__ == "__main__":
    begin_log()
    with suppress(psutil.NoSuchProcess):
        sys.exit(main(Path(sys.argv[1])))
