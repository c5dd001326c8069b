"""The commands `worker ...`."""

from __future__ import annotations

import sys
from typing import Any

import typer

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
from jobs.runner.worker import main as worker_main
from jobs.store.store import Store
from studio.cards import moment
from studio.cli.terminal import AsJson, Studio, out, print_table, show

worker_app = typer.Typer(invoke_without_command=True, help="The worker: run (without a word), start, stop, status.")


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


@worker_app.command("stop")
def stop(as_json: AsJson = False) -> None:
    """End the worker; its jobs go on. None starts by itself until `worker start`, or a command that needs one."""
    store = Studio.store()
    stop_worker(store.home)
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
        "workers": store.queue.workers(),
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
        out.print(f"{answer['jobs_running']} jobs are worked on, {answer['jobs_waiting']} wait.")
        rows = [[w["name"], w["version"] or "", moment(w["seen_at"])] for w in answer["workers"]]
        if rows:
            print_table(["worker", "version", "seen"], rows)

    show(answer, as_json, lines)
