"""The commands `worker ...`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from jobs.runner.choice import KEY, Choice
from jobs.runner.executors import EXECUTORS
from jobs.runner.executors.by_lane import choose
from jobs.runner.processes import is_alive
from jobs.runner.reconcile import reconcile
from jobs.runner.service import (
    START_SECONDS,
    holder,
    is_running,
    own_version,
    start_worker,
    stop_worker,
    wait_until,
)
from jobs.runner.webhook import notify, told_host
from jobs.runner.worker import main as worker_main
from jobs.store.store import Store
from studio.cards import moment
from studio.cli.executor import make_choice
from studio.cli.terminal import AsJson, Studio, out, print_table, show

worker_app = typer.Typer(
    invoke_without_command=True, help="The worker: run (without a word), start, stop, status, use, notify."
)


@worker_app.callback()
def run_worker(context: typer.Context) -> None:
    """Run a worker in the foreground until it is interrupted; or start, stop, or look at the one in the background."""
    if context.invoked_subcommand is None:
        sys.argv = ["worker", *(["--home", str(Studio.home)] if Studio.home else [])]
        raise typer.Exit(worker_main())


@worker_app.command("start")
def start(as_json: AsJson = False) -> None:
    """Start a worker in the background, unless one runs; one of an older version is replaced."""
    store = Studio.store()
    start_worker(store.home)
    wait_until(lambda: holder(store.home) and is_running(store.home), START_SECONDS, "The worker does not start.")
    _tell(store, as_json)


@worker_app.command("use")
def use(
    executor: Annotated[str, typer.Argument(help=", ".join(EXECUTORS))],
    ray_address: Annotated[str, typer.Option(help="Dashboard of a Ray cluster, http://HOST:8265")] = "",
    job_cpus: Annotated[int, typer.Option(help="Processors of a job elsewhere")] = Choice.cpus,
    job_gpus: Annotated[int | None, typer.Option(help="GPUs of a job elsewhere; 1 where there are any")] = None,
    job_memory_gib: Annotated[float | None, typer.Option(help="GiB of memory of a job elsewhere")] = None,
    job_processes: Annotated[int, typer.Option(help="Processes that train one run together, one a GPU")] = 1,
    slurm: Annotated[list[str] | None, typer.Option(help="An option of sbatch: partition=gpu")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose what carries training out from now on; a worker that runs is replaced, and what works goes on."""
    choice = make_choice(executor, ray_address, job_cpus, job_gpus, job_memory_gib, slurm or [], job_processes)
    store = Studio.store()
    choose(store, choice)
    _tell(store, as_json)


@worker_app.command("stop")
def stop(as_json: AsJson = False) -> None:
    """End the worker; its jobs go on. None starts by itself until `worker start`, or a command that needs one."""
    store = Studio.store()
    stop_worker(store.home)
    _tell(store, as_json)


@worker_app.command("notify")
def notify_of_ends(
    address: Annotated[str, typer.Argument(help="https://..., to which a notice is sent; - reads it; none for nobody")],
    as_json: AsJson = False,
) -> None:
    """Tell a web server of every job that ends; `worker status` and logs name its host only."""
    chosen = sys.stdin.readline().strip() if address == "-" else address
    store = Studio.store()
    notify(store, "" if chosen == "none" else chosen)
    _tell(store, as_json)


@worker_app.command("status")
def status(as_json: AsJson = False) -> None:
    """Say whether a worker runs here, of which version, and which others there are over this database."""
    store = Studio.store()
    reconcile(store)
    _tell(store, as_json)


def worker_view(store: Store) -> dict[str, Any]:
    """What there is to say of workers as an answer."""
    who, runs = holder(store.home), is_running(store.home)
    counts = store.queue.counts()
    return {
        "is_running": runs,
        "pid": who.get("pid") if runs and is_alive(who) else None,
        "version": who.get("version") if runs else None,
        "own_version": own_version(),
        "starts_by_itself": not store.home.no_worker.exists(),
        "executor": Choice.load(store.settings.get(KEY)).dump(),
        "told": told_host(store),
        "workers": store.workers.seen(),
        "jobs_waiting": counts["queued"],
        "jobs_running": counts["running"],
    }


def _tell(store: Store, as_json: bool) -> None:
    answer = worker_view(store)

    def lines() -> None:
        if answer["is_running"]:
            out.print(
                f"A worker runs here: process {answer['pid'] or 'not told'}, version {answer['version'] or 'old'}."
            )
        else:
            by_itself = (
                "with the studio, or a command that needs one" if answer["starts_by_itself"] else "when asked for"
            )
            out.print(f"No worker runs here; one starts {by_itself}: `worker start`.")
        out.print(f"Training is carried out by: {Choice(**answer['executor']).shown()}.")
        if answer["told"]:
            out.print(f"Ends of jobs are told to {answer['told']}.", markup=False)
        out.print(f"{answer['jobs_running']} jobs are worked on, {answer['jobs_waiting']} wait.")
        rows = [[w["name"], w["version"] or "", moment(w["seen_at"]), *_place(w)] for w in answer["workers"]]
        if rows:
            print_table(["worker", "version", "seen", "address", "memory", "GPUs"], rows)

    show(answer, as_json, lines)


def _place(worker: dict[str, Any]) -> list[str]:
    """Address, memory and GPUs of a worker's machine, as far as it has told them."""
    memory = f"{worker['memory'] / 2**30:.0f} GiB" if worker["memory"] else ""
    return [worker["address"] or "", memory, ", ".join(gpu["name"] for gpu in worker["devices"] or [])]
