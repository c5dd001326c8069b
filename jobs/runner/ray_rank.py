"""One of the processes that train a run together on the nodes of a Ray cluster: what each does.

Ray Train has told them of each other (`RANK`, `WORLD_SIZE` and the like, and torch's process group). The first leads:
it reports, saves, and gives the summary back.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hydralora.errors import StoppedError, UserError
from jobs.home import private_files
from jobs.runner.logs import begin_log
from jobs.runner.ownership import ENDED
from jobs.runner.ranks import FOLLOW, LEAD, failure_of

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
ENVIRONMENT = "nodes.json"  # in the attempt's folder, until all have read it
STOP = "interrupt"  # there once the attempt's own process was told to end
STOPPED = "stopped"  # key of what the first process gives back where it was stopped
OF_PEER = re.compile("by peer|gloo|nccl", re.IGNORECASE)  # in the error of one whose peer has gone
PLACES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


class LostError(Exception):
    """A process that trains along has gone without a word; ``is_known`` where Ray knows what has gone with it."""

    is_known = False


def train_along(asked: dict[str, Any]) -> dict[str, Any]:
    """Train as one process of the attempt in the folder ``asked`` names.

    Raises:
        LostError: When another one has gone.
        UserError: When the run cannot be trained.
        RuntimeError: Of whatever else happens; errors of other kinds may not be known to who reads them.
    """
    from jobs.kind import named
    from jobs.runner.child import Job

    folder = Path(asked["folder"])
    rank = _take_environment(folder)
    job = Job(folder, json.loads((folder / "spec.json").read_bytes()))
    threading.Thread(target=_listen, args=(job,), daemon=True).start()
    try:
        found = named(FOLLOW if rank else LEAD)(job)
        job.settle()
    except StoppedError as stopped:
        return {STOPPED: str(stopped)}
    except UserError as error:
        raise UserError(str(error)) from error
    except Exception as error:
        log.exception("Process %d failed.", rank)
        if OF_PEER.search(str(error)):
            raise LostError(str(error)) from error
        raise RuntimeError(failure_of(rank, error)) from error
    return {} if rank else dict(found.dump())


def _take_environment(folder: Path) -> int:
    """Make this process one of the attempt, which has its processors to itself; gives its rank."""
    import torch.distributed as dist

    private_files()
    begin_log()
    os.chdir(folder)
    os.environ.update(json.loads((folder / ENVIRONMENT).read_bytes()))
    tempfile.tempdir = str(folder / "temp")
    rank = dist.get_rank()
    dist.barrier()  # all have read it
    if not rank:
        (folder / ENVIRONMENT).unlink()
    os.environ["LOCAL_WORLD_SIZE"] = "1"
    if dist.get_world_size() == 1:  # a run that is trained by one process knows of no others
        dist.destroy_process_group()
        for name in PLACES:
            os.environ.pop(name, None)
    return rank


def _listen(job: Any) -> None:
    """Pass on to the training that it is to end, and end with the attempt."""
    while not (job.folder / ENDED).exists():
        if (job.folder / STOP).exists():
            job.request_stop()
        time.sleep(LOOK_SECONDS)
    log.warning("This attempt was given up: the process ends.")
    os._exit(1)
