"""The processes that train one run together over the nodes of a Ray cluster, seen from the attempt's own process.

Ray has begun it as a job that takes no processor. It holds the lease and publishes what comes out; it asks the cluster
for the processes (``jobs.runner.ray_train``), which do the work (``jobs.runner.ray_rank``), and waits. Ray ends them
with it. When one of them or its node is lost all end, and the next attempt goes on from the last checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydralora.errors import StoppedError
from hydralora.files import remove, write_json
from hydralora.results import RunSummary
from jobs.runner.begin import CORES, OF_THE_NODE, needs_of
from jobs.runner.choice import NODE_LOST
from jobs.runner.environment import PROJECT
from jobs.runner.ranks import end_attempt
from jobs.runner.ray_rank import ENVIRONMENT, STOP, STOPPED, LostError
from jobs.runner.ray_train import STORAGE, fit
from jobs.runner.remains import MARK

if TYPE_CHECKING:
    from jobs.runner.child import Job

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 40.0  # within which Ray knows of a node that has gone
OF_RAY = {  # what the processes print is in the attempt's log, as it is
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
}


def train_on_nodes(job: Job, processes: int) -> RunSummary:
    """Have ``processes`` processes of the cluster train together, on as many nodes as there are.

    Raises:
        StoppedError: When asked to stop, or a node was lost: the state is kept in the last checkpoint.
        UserError: With what a process has failed by.
        RuntimeError: The same, where nobody foresaw it.
    """
    with _in_cluster(job.folder):
        nodes = _alive()
        job.report(0.0, f"Waiting for {processes} processes on the nodes")
        try:
            told = _wait(job, _aside(lambda: fit(job.folder, processes, _at_start(job.folder))))
        except LostError as error:
            log.error("A process that trains this run, or its node, was lost: %s", error)
            if _is_one_lost(nodes, within=0.0 if error.is_known else HEARTBEAT_SECONDS):
                raise StoppedError(NODE_LOST) from error
            told = {}
    if not told:
        end_attempt()
    if STOPPED in told:
        raise StoppedError(told[STOPPED])
    return RunSummary.load(told, "The training")


@contextmanager
def _in_cluster(folder: Path) -> Iterator[None]:
    """Be known to the cluster that has begun this process; nothing of the block stays there or in ``folder``."""
    os.environ.update(OF_RAY)  # Ray looks at them as it is imported
    import ray

    listener = signal.getsignal(signal.SIGTERM)
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    ray.init(address="auto", runtime_env={"env_vars": {"PYTHONPATH": path}})
    signal.signal(signal.SIGTERM, listener)  # Ray has put its own in its place
    own = ("RAY_", "PATH", "PYTHONPATH", *CORES, *OF_THE_NODE)
    left = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    try:
        write_json(folder / ENVIRONMENT, left, mode=0o600)
        yield
    finally:
        ray.shutdown()
        (folder / ENVIRONMENT).unlink(missing_ok=True)
        remove(folder / STORAGE)


def _at_start(folder: Path) -> dict[str, str]:
    """What the processes need of the environment before they can read the rest, which no table of Ray shows."""
    cores = {name: os.environ[name] for name in CORES if name in os.environ}  # Ray would set one for all
    hidden = {} if needs_of(folder).get("GPU") else {"CUDA_VISIBLE_DEVICES": ""}
    return {MARK: str(folder), **cores, **hidden}


def _aside(do: Callable[[], dict[str, Any]]) -> Future[dict[str, Any]]:
    """Do something in a thread that nobody waits for at the end."""
    found: Future[dict[str, Any]] = Future()

    def work() -> None:
        try:
            found.set_result(do())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return found


def _wait(job: Job, found: Future[dict[str, Any]]) -> dict[str, Any]:
    """Wait for the end, and pass on that this process was told to end.

    Raises:
        StoppedError: When it was told so before the processes had begun.
    """
    while not wait([found], LOOK_SECONDS).done:
        if job.should_stop():
            (job.folder / STOP).touch()
            if (job.folder / ENVIRONMENT).exists():
                raise StoppedError("Stopped before it went on; what it had kept is still there.")
    return found.result()


def _alive() -> set[str]:
    """The nodes that live."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _is_one_lost(before: set[str], within: float) -> bool:
    """Whether one of these nodes has gone, which Ray may know some seconds later only."""
    deadline = time.monotonic() + within
    while before <= _alive() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return not before <= _alive()
