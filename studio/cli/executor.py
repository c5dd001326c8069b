"""What carries heavy jobs out, as the command that opens the studio and `worker use` take it."""

from __future__ import annotations

import argparse

from hydralora.errors import UserError
from jobs.runner.choice import Choice
from jobs.runner.executors import EXECUTORS


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Options that are remembered: a studio that is opened without them goes on as it was."""
    group = parser.add_argument_group("what carries training out", "Remembered until it is chosen anew.")
    group.add_argument("--executor", choices=list(EXECUTORS), default=None, help="processes of this machine at first")
    group.add_argument(
        "--ray-address", default="", metavar="URL", help="dashboard of a Ray cluster; without it Ray is started here"
    )
    group.add_argument("--job-cpus", type=int, default=Choice.cpus, help="processors of a job elsewhere (default 2)")
    group.add_argument("--job-gpus", type=int, default=None, help="GPUs of a job elsewhere (default 1 where there are)")
    group.add_argument("--job-memory-gib", type=float, default=None, help="GiB of memory of a job elsewhere")
    group.add_argument(
        "--job-processes",
        type=int,
        default=1,
        help="processes that train one run together, of this machine or of Ray's nodes, one a GPU (default 1)",
    )
    group.add_argument(
        "--slurm", action="append", default=[], metavar="NAME=VALUE", help="an option of sbatch: partition=gpu"
    )
    group.add_argument(
        "--artefacts",
        default=None,
        metavar="URL",
        help="keep finished folders in a store too: s3://BUCKET/PREFIX, file:///FOLDER; none takes it back",
    )


def chosen(options: argparse.Namespace) -> Choice | None:
    """What was chosen; None where nothing was.

    Raises:
        UserError: When an option means nothing without an executor.
    """
    if options.executor is None:
        if options.job_processes != 1:
            raise UserError("--job-processes needs --executor, as in --executor local --job-processes 2.")
        if options.ray_address or options.slurm:
            raise UserError("--ray-address and --slurm need --executor ray or --executor slurm.")
        return None
    return make_choice(
        options.executor,
        options.ray_address,
        options.job_cpus,
        options.job_gpus,
        options.job_memory_gib,
        options.slurm,
        options.job_processes,
    )


def make_choice(
    executor: str,
    address: str,
    cpus: int,
    gpus: int | None,
    memory_gib: float | None,
    options: list[str],
    processes: int = 1,
) -> Choice:
    """The choice of these words.

    Raises:
        UserError: When one of ``options`` is not NAME=VALUE, or a number is out of range.
    """
    pairs = [option.partition("=") for option in options]
    wrong = next((option for option, (_, sign, _) in zip(options, pairs, strict=True) if not sign), None)
    if wrong is not None:
        raise UserError(f"`--slurm {wrong}`: write --slurm NAME=VALUE, as in --slurm partition=gpu.")
    return Choice(executor, address, cpus, gpus, memory_gib, processes, {name: value for name, _, value in pairs})
