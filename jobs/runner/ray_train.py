"""One training by several workers of a Ray cluster, by Ray Train: https://docs.ray.io/en/latest/train/train.html

The attempt's own process, which Ray has begun as a job, asks the cluster it belongs to for the workers and waits; the
first of them leads (see ``jobs.runner.ranks``). All share the home. Ray ends the workers with the process that asked
for them, and this one ends when a worker or its node is lost: the next attempt goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError, UserError
from hydralora.files import remove, write_json
from hydralora.results import RunSummary
from jobs.runner.begin import CORES
from jobs.runner.child import Job
from jobs.runner.environment import PROJECT
from jobs.runner.ranks import GPUS_VARIABLE

log = logging.getLogger(__name__)
SUMMARY, WRONG, STOP = "summary.json", "worker.json", "interrupt"  # in the attempt's folder, by which they are told
LOST = "A worker of the training, or its node, was lost."
LOOK_SECONDS = 0.5
ENVIRONMENT = "workers.json"  # what the workers are given of the environment, there while they work
OF_EACH = ("RAY_", "CUDA_VISIBLE", "PATH", "PYTHONPATH")  # begin names of what a worker has of its own
PEER = re.compile("by peer|gloo|nccl|timed out", re.IGNORECASE)  # in the error of one that another has left


def train_on_nodes(job: Job, processes: int) -> RunSummary:
    """Have ``processes`` workers of the cluster train together, over as many nodes as there are.

    Raises:
        StoppedError: When asked to stop, or a worker was lost: the state is kept in the last checkpoint.
        UserError: With what a worker has failed by.
        RuntimeError: The same, where nobody foresaw it.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    ray.init(address="auto", runtime_env={"env_vars": {"PYTHONPATH": path, **_cores()}})
    left = {name: value for name, value in os.environ.items() if not name.startswith(OF_EACH)}
    write_json(job.folder / ENVIRONMENT, left, mode=0o600)  # a table of Ray would show it
    gpus = float(os.environ.get(GPUS_VARIABLE, "0"))
    needs = {"CPU": float(os.environ.get(CORES[0], "1")), **({"GPU": gpus} if gpus else {})}
    scaling = ScalingConfig(
        num_workers=processes, use_gpu=bool(gpus), resources_per_worker=needs, placement_strategy="SPREAD"
    )
    place = RunConfig(storage_path=str(job.folder / "ray"), name="train", failure_config=FailureConfig(max_failures=0))
    over = threading.Event()
    threading.Thread(target=_pass_stop_on, args=(job, over), daemon=True).start()
    job.report(0.0, f"Waiting for {processes} workers")
    try:
        TorchTrainer(
            work, train_loop_config={"folder": str(job.folder)}, scaling_config=scaling, run_config=place
        ).fit()
    except Exception as error:
        _raise_told(job.folder)
        log.error("%s %s", LOST, type(error).__name__)
        raise StoppedError(LOST) from error
    finally:
        over.set()
        (job.folder / ENVIRONMENT).unlink(missing_ok=True)
        remove(job.folder / "ray")
        ray.shutdown()
    _raise_told(job.folder)
    return RunSummary.load(json.loads((job.folder / SUMMARY).read_bytes()), "The training")


def _cores() -> dict[str, str]:
    """How many threads libraries take, by their variables; Ray would set one for all."""
    return {name: os.environ[name] for name in CORES if name in os.environ}


def _pass_stop_on(job: Job, over: threading.Event) -> None:
    """Tell the workers, by a file, that this process was told to end."""
    while not over.wait(LOOK_SECONDS):
        if job.should_stop():
            (job.folder / STOP).touch()
            return


def _raise_told(folder: Path) -> None:
    """Raise what a worker has left about its end, if it has."""
    if not (folder / WRONG).exists():
        return
    told = json.loads((folder / WRONG).read_bytes())
    if told["kind"] == "stopped":
        raise StoppedError(told["error"])
    raise UserError(told["error"]) if told["kind"] == "user" else RuntimeError(f"{told['kind']}: {told['error']}")


def work(asked: dict[str, Any]) -> None:
    """What each worker does; Ray Train has told the workers of each other."""
    import ray.train

    from jobs.runner.logs import begin_log
    from jobs.tasks import follow, lead

    begin_log()
    folder, context = Path(asked["folder"]), ray.train.get_context()
    os.environ.update(json.loads((folder / ENVIRONMENT).read_bytes()))
    rank = context.get_world_rank()
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(context.get_world_size()),
        LOCAL_RANK=str(context.get_local_rank()),
        LOCAL_WORLD_SIZE="1",  # each has cores of its own
    )
    job = WorkerJob(folder, json.loads((folder / "spec.json").read_bytes()))
    os.chdir(folder)
    try:
        if rank:
            follow(job)
        else:
            write_json(folder / SUMMARY, lead(job, nullcontext()).dump())
            job.settle()
    except StoppedError as stopped:
        if not rank:
            write_json(folder / WRONG, {"kind": "stopped", "error": str(stopped)})
    except UserError as error:
        write_json(folder / WRONG, {"kind": "user", "error": str(error)})
        raise
    except Exception as error:
        if not PEER.search(str(error)):
            write_json(folder / WRONG, {"kind": type(error).__name__, "error": str(error)})
        raise


class WorkerJob(Job):
    """The job as a worker sees it: it is told to end by a file."""

    def should_stop(self) -> bool:
        """Whether the user, or the process that asked for the workers, wants an end."""
        return super().should_stop() or (self.folder / STOP).exists()

    def report(self, share: float, text: str) -> None:
        """As the job's own process would; one worker reports."""
        if os.environ.get("RANK") == "0":
            super().report(share, text)
