"""Attempts as jobs of Slurm, submitted by submitit: https://github.com/facebookincubator/submitit

submitit writes the batch script, submits it and knows its logs; without a cluster its local executor stands for Slurm
(``Choice.address`` is ``local``). What works or waits is asked of `squeue`, which every Slurm has: `sacct`, which
submitit asks, needs accounts to be kept. A handle is the job's number.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from hydralora.errors import UserError
from hydralora.files import write_json
from jobs.runner.begin import command, leave
from jobs.runner.choice import HANDLE, Choice, Handle, UnreachableError, need
from jobs.runner.ownership import ENDED, STARTED, give_up
from jobs.runner.processes import family, identity, is_alive, kill

FOLDER = "slurm"  # in the attempt's folder: script, logs and states of submitit
MOST_AT_ONCE = 16  # attempts that Slurm is handed; what comes after waits in our own queue
HERE = "local"  # in place of a cluster
MINUTES = 24 * 60  # for an attempt, where `--slurm time=` says nothing; a run that meets it goes on in the next one
LOOK_SECONDS = 5.0  # between two looks at Slurm's queue
ANSWER_SECONDS = 30.0
# An attempt is told in time that its time is over, is begun again by our queue alone, and is given no secret of ours.
OPTIONS = {"signal": "TERM@120", "no-requeue": True, "export": "PATH,HOME,USER,LANG,PYTHONPATH,SUBMITIT_EXECUTOR"}


class SlurmExecutor:
    """Submits attempts with the processors, GPUs and memory of ``choice``."""

    def __init__(self, choice: Choice, home: Path) -> None:
        self.choice, self.cluster = choice, choice.address or "slurm"
        self._jobs: dict[str, Any] = {}  # by number, those that were submitted or looked at here
        self._queue, self._looked = dict[str, str](), -math.inf  # states by number, and when they were asked for

    def check(self) -> None:
        """See whether submitit and Slurm's commands are here.

        Raises:
            UserError: When they are not.
        """
        need("submitit", "slurm")
        if self.choice.address not in ("", HERE):
            raise UserError("Slurm has no address: leave it out on a node of the cluster, or give `local` to try it.")
        if self.choice.address != HERE and shutil.which("sbatch") is None:
            raise UserError("There is no `sbatch` here. Start the worker on a machine that can submit to Slurm.")

    def slots(self, kind: str) -> int | None:
        """As many as Slurm is handed at once; it has a queue of its own."""
        return MOST_AT_ONCE

    def is_ready(self, kind: str, cwd: Path) -> bool:
        """Always: what finds no node waits in Slurm's queue."""
        return True

    def start(self, kind: str, folder: Path, cwd: Path, gpu: str | None = None) -> Handle:
        """Submit the attempt.

        Raises:
            UserError: When submitit is not installed, or Slurm refuses the options.
        """
        self.check()
        gpus = self.choice.gpus or 0
        leave(folder, kind, self.choice, gpus)
        try:
            job = self._submitit(folder, gpus).submit(os.execvp, "env", command(folder))
        except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
            raise UserError(f"Slurm did not take the job: {last} Check --job-cpus, --job-gpus and --slurm.") from error
        self._jobs[job.job_id], self._looked = job, -math.inf
        who = identity(int(job.job_id)) if self.choice.address == HERE else {}
        handle = {"engine": "slurm", "id": job.job_id, "cluster": self.cluster, "folder": str(folder), **who}
        write_json(folder / HANDLE, handle)
        return handle

    def is_alive(self, handle: Handle) -> bool:
        """Whether Slurm works on it or will; what waits there and was given up never begins.

        Raises:
            UnreachableError: When Slurm does not answer.
        """
        folder = Path(handle["folder"])
        if (folder / "exit.json").exists() or ((folder / ENDED).exists() and not (folder / STARTED).exists()):
            return False
        if handle["cluster"] == HERE:
            self._job(handle).done()  # waits for a process of ours that has ended, so that no zombie stays
            return is_alive(handle)
        return handle["id"] in self._open()

    def stop(self, handle: Handle, *, at_once: bool = False) -> None:
        """An attempt that has begun sees the file ``stop`` by itself; one that waits is given up."""
        if not at_once and (Path(handle["folder"]) / STARTED).exists():
            return
        give_up(Path(handle["folder"]))
        if handle["cluster"] == HERE:
            kill(family(handle))
        else:
            self._job(handle).cancel(check=False)

    def logs(self, handle: Handle) -> str:
        """What Slurm's script and its processes have printed."""
        return "\n".join(filter(None, [(job := self._job(handle)).stdout(), job.stderr()]))

    def collect(self, handle: Handle) -> None:
        """Remove what submitit has written, but for its logs."""
        self._jobs.pop(handle["id"], None)
        for file in (Path(handle["folder"]) / FOLDER).glob("*.pkl"):
            file.unlink(missing_ok=True)

    def _submitit(self, folder: Path, gpus: int) -> Any:
        from submitit import AutoExecutor

        executor = AutoExecutor(folder / FOLDER, cluster=self.cluster)
        options: dict[str, Any] = {**OPTIONS, **self.choice.options}
        asked: dict[str, Any] = {"timeout_min": int(options.pop("time", MINUTES)), "cpus_per_task": self.choice.cpus}
        asked |= {"gpus_per_node": gpus} if gpus else {}
        asked |= {"mem_gb": self.choice.memory_gib} if self.choice.memory_gib else {}
        if self.cluster != HERE:
            asked |= {"name": f"studio-{folder.parent.name}-{folder.name}", "slurm_additional_parameters": options}
        executor.update_parameters(**asked)
        return executor

    def _open(self) -> dict[str, str]:
        """The states of our jobs that work or wait, by number."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            words = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i %T"]
            try:
                asked = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
            except (OSError, subprocess.SubprocessError) as error:
                said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
                raise UnreachableError(f"Slurm does not answer: {said[-1] if said else 'nothing'}") from error
            self._queue = dict(line.split(maxsplit=1) for line in asked.stdout.splitlines() if line.strip())
            self._looked = time.monotonic()
        return self._queue

    def _job(self, handle: Handle) -> Any:
        """Submitit's object; made anew where an earlier worker has submitted it."""
        if handle["id"] not in self._jobs:
            from submitit import LocalJob, SlurmJob

            kind = LocalJob if handle["cluster"] == HERE else SlurmJob
            self._jobs[handle["id"]] = kind(Path(handle["folder"]) / FOLDER, handle["id"])
        return self._jobs[handle["id"]]
