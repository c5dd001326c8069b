"""Every button of the page as a command; both call the same functions of the store.

Exit status: 0 done, 1 the job failed, 2 wrong input, 3 the job was stopped, 130 interrupted (the
job goes on). With ``--json`` the answer is one JSON object on standard output; progress and
errors go to standard error.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bounds import LONGEST_NAME, Minutes, checked
from hydralora.errors import UserError
from jobs.runner.service import start_worker
from jobs.store.database import open_home
from jobs.tour import BASE, MINUTES, Tour
from studio.cli.artefacts import artefacts_app
from studio.cli.bases import bases_app
from studio.cli.chat import chat
from studio.cli.clusters import clusters_app
from studio.cli.compare import compare_app
from studio.cli.corpora import corpora_app
from studio.cli.edits import edits_app
from studio.cli.endpoint import keys_app, serve
from studio.cli.exports import exports_app
from studio.cli.inspect import inspect_run
from studio.cli.quality import quality_app
from studio.cli.queue import queue_app
from studio.cli.runs import runs_app
from studio.cli.selection import selection_app
from studio.cli.terminal import (
    FAILED,
    INTERRUPTED,
    POLL_SECONDS,
    WRONG,
    AsJson,
    Studio,
    err,
    out,
    print_table,
    show,
    wait_for,
)
from studio.cli.worker import worker_app
from studio.doctor import examine, sweep_all
from studio.web.address import running_address

PROGRAM = "python -m studio"
WRONG_USE: type[Exception] = typer.BadParameter.__bases__[0]  # typer names no common class of its usage errors

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Hydra Studio on the command line.", pretty_exceptions_enable=False
)
corpora_app.add_typer(clusters_app)
corpora_app.add_typer(quality_app)  # without a name: its commands are those of `corpora`
corpora_app.add_typer(selection_app)
corpora_app.add_typer(edits_app)
app.add_typer(corpora_app, name="corpora")
runs_app.add_typer(exports_app)
runs_app.add_typer(compare_app)  # without a name: its commands are those of `runs`
app.add_typer(runs_app, name="runs")
app.add_typer(bases_app, name="bases")
app.command("inspect")(inspect_run)
app.add_typer(keys_app, name="keys")
app.add_typer(worker_app, name="worker")
app.add_typer(queue_app, name="queue")
app.add_typer(artefacts_app, name="artefacts")
app.command("chat")(chat)
app.command("serve")(serve)


@app.callback(invoke_without_command=True)
def choose(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder that keeps everything")] = None,
) -> None:
    """Hydra Studio on the command line."""
    Studio.home = home
    if context.invoked_subcommand is None:
        out.print(context.get_help())
        raise typer.Exit(WRONG)


@app.command("address")
def print_address(as_json: AsJson = False) -> None:
    """Print the address of the studio that runs over this home, with its token."""
    found = running_address(open_home(Studio.home))
    show(
        {"address": found.link, "pid": found.pid}, as_json, lambda: out.print(found.link, soft_wrap=True, markup=False)
    )


@app.command("tour")
def take_tour(
    base: Annotated[str, typer.Option(help=f"The base that is trained: {' or '.join(MINUTES)}")] = BASE,
    minutes: Annotated[
        float | None, typer.Option(help="How long it trains  [default: as long as the base asks]")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the sample runs and corpora instead")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk the whole way on a sample corpus: read, cluster, train, compare."""
    minutes = None if minutes is None else checked(Minutes, minutes, "minutes")
    store = Studio.store()
    tour = Tour(store)
    start_worker(store.home)
    if remove:
        tour.remove()
    else:
        tour.begin(minutes, base)
    while wait and not remove and not (tour.is_done or tour.problem):
        open_job = next((stage.job for stage in tour.stages() if stage.job and not stage.is_done), None)
        if open_job is not None and open_job.is_finished:
            raise UserError(
                open_job.error or f"The tour's job {open_job.id} was {open_job.status}. Resume it, then wait again."
            )
        wait_for(store, open_job, "Tour") if open_job else time.sleep(POLL_SECONDS)
    answer: dict[str, Any] = {
        "run_id": tour.run_id,
        "done": tour.is_done,
        "problem": tour.problem,
        "stages": {stage.name: stage.job.status if stage.job else None for stage in tour.stages()},
    }
    show(
        answer,
        as_json,
        lambda: print_table(
            ["step", "state"], [[name, state or "to come"] for name, state in answer["stages"].items()]
        ),
    )
    if tour.problem:
        err.print(tour.problem)
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port the studio would use")] = 7860,
    sweep: Annotated[bool, typer.Option("--sweep", help="Delete the leftovers first that it would name")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong with this installation, and say how to mend it."""
    if sweep:
        err.print(f"{sweep_all(Studio.store()):,} leftovers are deleted.")
    findings = examine(Studio.home, port)
    answer = {"ok": all(f.ok for f in findings), "findings": [vars(f) for f in findings]}
    show(
        answer,
        as_json,
        lambda: print_table(
            ["", "what", "found", "fix"],
            [["ok" if f.ok else "WRONG", f.name, f.found, f.way_out] for f in findings],
        ),
    )
    if not answer["ok"]:
        raise typer.Exit(FAILED)


def main(arguments: list[str] | None = None) -> None:
    """Entry of ``python -m studio``: what a person can mend becomes one sentence."""
    try:
        status = app(arguments, prog_name=PROGRAM, standalone_mode=False) or 0
    except UserError as error:
        err.print(str(error))
        status = WRONG
    except WRONG_USE as error:
        if told := _usage(error):
            err.print(told)
        status = WRONG
    except OSError as error:
        err.print(f"{error.filename or 'A file'}: {error.strerror or error}. Check the path and its permissions.")
        status = WRONG
    except typer.Abort:
        status = FAILED
    if status == INTERRUPTED:
        err.print("Interrupted. What was started goes on in the background.")
    sys.exit(status)


def _usage(error: Any) -> str:
    """What is wrong with the words of a command; empty where its help has been shown instead."""
    said: str = error.format_message()
    if not said:
        return said
    where = error.ctx.command_path if error.ctx else PROGRAM
    return f"{said[:LONGEST_NAME].rstrip('.')}. See `{where} --help`."
