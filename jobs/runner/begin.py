"""The first process of an attempt that an engine starts somewhere: `python -m jobs.runner.begin FOLDER`.

The node shares the home's folder with the worker. What the attempt is given of environment and database waits there, in
a file that only we can read and that is gone once it was read: no table, page or script of an engine ever holds a
secret. The process holds the attempt to the limits of its own machine and becomes the reaper.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydralora.files import write_json
from jobs.kind_limits import GIB
from jobs.kinds import KINDS
from jobs.runner.choice import Choice
from jobs.runner.environment import PROJECT, job_environment, other_database
from jobs.runner.limits import limits_of
from jobs.runner.ownership import STARTED
from jobs.runner.ranks import PROCESSES_VARIABLE

NEEDS = "needs.json"  # in the attempt's folder: what each of several processes on Ray's nodes is given, by Ray's names
LEFT = "begin.json"  # in the attempt's folder, until its first process has read it
REFUSED = "The node cannot work on this:"  # begins the sentence of a node that cannot; it stands in the engine's log
OF_THE_NODE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TMPDIR", "HOSTNAME")
OF_CLUSTER = ("RAY_",)  # begin the names by which a process knows its cluster
CORES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CODE = 3  # of a process that does not begin


def leave(folder: Path, kind: str, choice: Choice, gpus: int) -> None:
    """Put down what the first process of an attempt needs to know; ``gpus`` are those that its engine gives it.

    Raises:
        OSError: When the disk does not take it.
    """
    environment = {name: value for name, value in job_environment(kind).items() if name not in OF_THE_NODE}
    environment |= dict.fromkeys(CORES, str(choice.cpus)) | {PROCESSES_VARIABLE: str(choice.processes)}
    left = {"kind": kind, "environment": environment, "database": other_database(), "gpus": gpus}
    write_json(folder / LEFT, {**left, "memory_gib": choice.memory_gib}, mode=0o600)


def leave_needs(folder: Path, needs: dict[str, int]) -> None:
    """Have the attempt ask Ray's nodes for its processes, each of which is given ``needs``."""
    write_json(folder / NEEDS, needs)


def is_over_nodes(folder: Path) -> bool:
    """Whether the attempt in ``folder`` asks Ray's nodes for the processes that do its work."""
    return (folder / NEEDS).exists()


def needs_of(folder: Path) -> dict[str, int]:
    """What each of them is given."""
    found: dict[str, int] = json.loads((folder / NEEDS).read_bytes())
    return found


def command(folder: Path, python: str = sys.executable) -> list[str]:
    """What an engine runs on a node to begin the attempt in ``folder``."""
    return ["env", f"PYTHONPATH={PROJECT}", python, "-m", "jobs.runner.begin", str(folder)]


def main(folder: Path) -> int:
    """Become the reaper of the attempt in ``folder``; gives a code only where that is not possible."""
    os.umask(0o077)
    if (folder / STARTED).exists():  # an engine has begun it anew by itself: another attempt does that
        return CODE
    try:
        left = json.loads((folder / LEFT).read_bytes())
        (folder / LEFT).unlink()
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.chdir(_fit_limits(folder, left)["home"])
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
        print(
            f"{REFUSED} {platform.node()} cannot use the folder of this attempt ({why}). The home must be a folder "
            "that all nodes share, under one path, and that its owner may write there."
        )
        return CODE
    told, tell = os.pipe()
    os.write(tell, left["database"].encode())
    os.close(tell)
    for descriptor, place in ((told, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    python = [sys.executable, "-m"]
    os.execve(
        sys.executable,
        [*python, "jobs.runner.reaper", str(folder), *python, "jobs.runner.child", str(folder)],
        _environment(folder, left),
    )


def _environment(folder: Path, left: dict[str, Any]) -> dict[str, str]:
    """What the worker has left, with what only the node knows; an attempt without a GPU sees none."""
    own = OF_CLUSTER if is_over_nodes(folder) else ()
    known = {name: value for name, value in os.environ.items() if name in OF_THE_NODE or name.startswith(own)}
    found = {**left["environment"], **known}
    if not left["gpus"]:
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found


def _fit_limits(folder: Path, left: dict[str, Any]) -> dict[str, Any]:
    """Write the limits of this machine into the attempt's ``spec.json``, and give that: its memory may be another than
    the worker's."""
    spec: dict[str, Any] = json.loads((folder / "spec.json").read_bytes())
    if left["kind"] not in KINDS:  # of another module: it keeps the limits that it has
        return spec
    found, asked = limits_of(left["kind"], left["environment"]), left["memory_gib"]
    if asked is not None and found.memory is not None:
        found = replace(found, memory=min(found.memory, int(asked * GIB)))
    spec["limits"] = asdict(found)
    write_json(folder / "spec.json", spec)
    return spec


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
