"""The commands `runs ...`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.training.presets import PRESETS
from jobs.runner.room import FULL, is_full
from jobs.runner.service import start_worker
from jobs.store.logs import page, search
from jobs.store.records import Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.cards import moment
from studio.cli.bases import base_of_command
from studio.cli.terminal import (
    FAILED,
    STOPPED,
    AsJson,
    RunId,
    Studio,
    Yes,
    err,
    out,
    print_table,
    show,
    wait_for,
)
from studio.estimate import Place, settings_of
from studio.exports import trainable
from studio.silence import words_of

runs_app = typer.Typer(no_args_is_help=True, help="Runs: start, import, list, show, stop, resume, export, push ...")


def told_of(store: Store, run: Run) -> Run:
    """The run; where its job has not been heard of lately, its words say since when."""
    job = run.job
    if job is None or job.silent_since is None:
        return run
    full = f" {FULL.capitalize()}." if is_full(store.home.root) else ""
    return replace(run, job=replace(job, progress_text=f"{words_of(job)}{full}"))


def run_view(run: Run) -> dict[str, Any]:
    """One run as an answer."""
    job = run.job
    return {
        "run_id": run.id,
        "name": run.name,
        "status": run.status,
        "method": run.method,
        "base": run.base,
        "corpus_id": run.corpus_id,
        "clustering_id": run.clustering_id,
        "grouping": run.grouping,
        "progress": job.progress if job else 0.0,
        "text": job.progress_text if job else "",
        "error": job.error if job else None,
        "summary": run.summary.dump() if run.summary else None,
    }


def print_run(run: Run) -> None:
    """One run for people."""
    answer, summary = run_view(run), run.summary
    out.print(f"Run {answer['run_id']} '{answer['name']}': {answer['status']}. {answer['error'] or answer['text']}")
    if summary and summary.imported:
        problem = f"; {summary.base_problem}" if summary.base_problem else ""
        out.print(f"  {answer['method']}, {trainable(summary)}{problem}")
    for found, why in [*filter(None, [summary.overfitting]), *summary.losses] if summary else []:
        out.print(f"  {found} {why}")
    if summary and summary.note:
        out.print(f"  {summary.note}")
    if summary and summary.energy:
        out.print(f"  {summary.energy.sentence}")
    if summary and summary.held_out_loss is not None:
        before = "not measured" if summary.held_out_loss_before is None else f"{summary.held_out_loss_before:.3f}"
        out.print(f"  held-out loss {summary.held_out_loss:.3f}, before training {before}; {trainable(summary)}")


def parse_setting(text: str) -> tuple[str, str, Any]:
    """``train.seed=3`` as ("train", "seed", 3)."""
    name, sign, value = text.partition("=")
    part, dot, field = name.partition(".")
    if not sign or not dot or part not in ("adapter", "train"):
        raise UserError(f"`--set {text}`: write adapter.NAME=VALUE or train.NAME=VALUE.")
    try:
        return part, field, json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or a number too long to be one
        return part, field, value


@runs_app.command("start")
def start_run(
    corpus: Annotated[int, typer.Option(min=0, max=LARGEST_ID, help="Id of the corpus")],
    base: Annotated[
        str, typer.Option(help="starter, one of `bases list`, a folder (it is added), or a hub id")
    ] = "starter",
    method: Annotated[str, typer.Option(help="hydralora, lora, ...")] = "hydralora",
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}")] = "Quick",
    experts: Annotated[int | None, typer.Option(help="Number of heads B")] = None,
    r: Annotated[int | None, typer.Option("--r", "--rank", help="Rank: width of A and of each head B")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the examples, in place of steps")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in one pass")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order")] = None,
    name: Annotated[str, typer.Option(help="Name of the run")] = "",
    after: Annotated[
        list[int] | None, typer.Option(min=0, max=LARGEST_ID, help="Id of a run that must have succeeded first")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: train.eval_every=25")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a training run in the background."""
    if preset.capitalize() not in PRESETS:
        raise UserError(f"`--preset` must be one of {', '.join(PRESETS)}, got '{preset}'.")
    given = {
        "max_steps": max_steps,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    store = Studio.store()
    base = base_of_command(store, base)
    chosen = settings_of(store, preset.capitalize(), Place(corpus, base, method))
    train = {**chosen, **{name_: value for name_, value in given.items() if value is not None}}
    adapter = {name_: value for name_, value in {"num_experts": experts, "r": r}.items() if value is not None}
    config: dict[str, Any] = {"base": base, "method": method, "adapter": adapter, "train": train}
    for text in settings or ():
        part, field, value = parse_setting(text)
        config[part][field] = value
    before = [store.runs.get(other).job for other in after or ()]
    run = store.runs.start(corpus, config, name=name, after=[job.id for job in before if job is not None])
    start_worker(store.home)
    follow(store, run, wait, as_json)


def follow(store: Store, run: Run, wait: bool, as_json: bool) -> None:
    """Answer at once, or wait for the end of a run and answer then."""
    if wait:
        done = wait_for(store, run.job, f"Run {run.id}")
        run = store.runs.get(run.id)
    show(run_view(run), as_json, lambda: print_run(run))
    if wait and done.status != JobStatus.SUCCEEDED:
        if as_json:
            err.print(done.error or done.progress_text)
        raise typer.Exit(STOPPED if done.status == JobStatus.STOPPED else FAILED)


@runs_app.command("import")
def import_run(
    files: Annotated[
        list[Path], typer.Argument(help="A folder, a zip, or adapter_config.json and adapter_model.safetensors")
    ],
    base: Annotated[str, typer.Option(help="Base it was trained on; else the one that the adapter names")] = "",
    corpus: Annotated[int | None, typer.Option(min=0, max=LARGEST_ID, help="Id of the corpus to measure it on")] = None,
    name: Annotated[str, typer.Option(help="Name of the run")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    as_json: AsJson = False,
) -> None:
    """Import an external adapter: PEFT's, ours, or the authors' HydraLoRA."""
    store = Studio.store()
    base = base_of_command(store, base)
    run = store.runs.import_adapter(adapter_files(files), base=base, corpus_id=corpus, name=name or adapter_name(files))
    start_worker(store.home)
    follow(store, run, wait, as_json)


def adapter_files(given: list[Path]) -> list[Path]:
    """The files of an adapter, where a folder is given in place of them."""
    missing = next((file for file in given if not file.exists()), None)
    if missing is not None:
        raise UserError(f"{missing} does not exist. Check the path.")
    found = [path for file in given for path in (sorted(file.iterdir()) if file.is_dir() else [file])]
    return [path for path in found if path.is_file()]


def adapter_name(given: list[Path]) -> str:
    """A name from the folder or archive."""
    first = given[0].resolve()
    return first.name if first.is_dir() else first.stem if first.suffix == ".zip" else first.parent.name


@runs_app.command("list")
def list_runs(as_json: AsJson = False) -> None:
    """List all runs."""
    store = Studio.true_store()
    answer = [run_view(told_of(store, run)) for run in store.runs.all()]
    rows = [[a["run_id"], a["name"], a["method"], a["status"], f"{a['progress']:.0%}"] for a in answer]
    show(answer, as_json, lambda: print_table(["id", "name", "method", "status", "progress"], rows))


@runs_app.command("show")
def show_run(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run, with what has become of it: when, who and why."""
    store = Studio.true_store()
    run, events = told_of(store, store.runs.get(run_id)), store.runs.events(run_id)
    answer = {**run_view(run), "config": run.config.model_dump(), "events": [asdict(event) for event in events]}

    def lines() -> None:
        print_run(run)
        for event in events:
            out.print(f"  {moment(event.at)}  {event.after}, by {event.who}{f': {event.why}' if event.why else ''}")

    show(answer, as_json, lines)


@runs_app.command("stop")
def stop_run(run_id: RunId, wait: Annotated[bool, typer.Option("--wait")] = False, as_json: AsJson = False) -> None:
    """Stop a run; it writes a checkpoint first."""
    store = Studio.true_store()
    run = store.runs.stop(run_id)
    if run.job is not None and not run.job.is_finished:
        start_worker(store.home)  # where none lives, nobody would end it
    if wait:
        wait_for(store, run.job, "Stopping")
    run = store.runs.get(run_id)
    show(run_view(run), as_json, lambda: print_run(run))


@runs_app.command("resume")
def resume_run(
    run_id: RunId,
    smaller: Annotated[
        bool, typer.Option("--smaller", help="With half the examples in one pass and twice the passes: less memory")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait")] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a stopped, failed or lost run from its last checkpoint; look for an imported adapter's base again."""
    store = Studio.true_store()
    start_worker(store.home)  # also where the run waits, or works on by itself: then it is looked after again
    run = store.runs.get(run_id)
    if not (wait and run.job is not None and not run.job.is_finished):
        run = store.runs.resume(run_id, smaller=smaller)
    follow(store, run, wait, as_json)


@runs_app.command("delete")
def delete_run(run_id: RunId, yes: Yes = False) -> None:
    """Delete a run with its checkpoints."""
    if yes or typer.confirm(f"Delete run {run_id} for good?", err=True):
        Studio.store().runs.delete(run_id)


@runs_app.command("log")
def log_of_run(
    run_id: RunId,
    find: Annotated[str | None, typer.Option(help="Only lines with these words")] = None,
    before: Annotated[int | None, typer.Option(min=0, help="The piece that ends at this byte, not the last")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of an earlier attempt")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a run's job has printed: the last piece, an earlier one, or the lines with some words."""
    store = Studio.store()
    job = store.runs.get(run_id).job
    if job is None:
        raise UserError(f"Run {run_id} has no job, and so no log.")
    if find is not None:
        lines = search(store.home, job, find, attempt=attempt)
        answer: dict[str, Any] = {"lines": [asdict(line) for line in lines]}
        text = "\n".join(f"{one.number:>7}  {one.text}" for one in lines)
        show(answer, as_json, lambda: out.print(text, markup=False, highlight=False))
        return
    found = page(store.home, job, before=before, attempt=attempt)
    show(asdict(found), as_json, lambda: out.print(found.text, markup=False, highlight=False))
    if found.begin and not as_json:
        err.print(f"Earlier: --before {found.begin} (of {found.size:,} bytes).")
