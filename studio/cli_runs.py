"""The commands `runs ...`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.errors import UserError
from hydralora.methods import EXPORTS
from hydralora.presets import PRESETS
from jobs.records import Run
from jobs.status import JobStatus
from jobs.store import Store
from jobs.worker import start_worker
from studio.estimate import settings_of
from studio.exports import EXPORT_HEAD, export_row, trainable
from studio.terminal import (
    FAILED,
    STOPPED,
    AsJson,
    Studio,
    Yes,
    err,
    finished,
    out,
    print_table,
    show,
    wait_for,
)

runs_app = typer.Typer(no_args_is_help=True, help="Runs: start, import, list, show, stop, resume, export, delete.")


def run_view(run: Run) -> dict[str, Any]:
    """One run as an answer."""
    job = run.job
    return {"run_id": run.id, "name": run.name, "status": run.status, "method": run.config["method"], "base": run.config["base"],
            "corpus_id": run.corpus_id, "progress": job.progress if job else 0.0, "text": job.progress_text if job else "",
            "error": job.error if job else None, "summary": run.summary}  # fmt: skip


def print_run(answer: dict[str, Any]) -> None:
    """One run for people."""
    summary = answer["summary"] or {}
    out.print(f"Run {answer['run_id']} '{answer['name']}': {answer['status']}. {answer['error'] or answer['text']}")
    if summary.get("imported"):
        out.print(
            f"  {answer['method']}, {trainable(summary)}"
            + (f"; {summary['base_problem']}" if summary["base_problem"] else "")
        )
    if summary.get("held_out_loss") is not None:
        out.print(f"  held-out loss {summary['held_out_loss']:.3f}, before training {summary['held_out_loss_before'] or float('nan'):.3f}; "
                  f"{trainable(summary)}")  # fmt: skip


def parse_setting(text: str) -> tuple[str, str, Any]:
    """``train.seed=3`` as ("train", "seed", 3)."""
    name, sign, value = text.partition("=")
    part, dot, field = name.partition(".")
    if not sign or not dot or part not in ("adapter", "train"):
        raise UserError(f"`--set {text}`: write adapter.NAME=VALUE or train.NAME=VALUE.")
    try:
        return part, field, json.loads(value)
    except json.JSONDecodeError:
        return part, field, value


@runs_app.command("start")
def start_run(
    corpus: Annotated[int, typer.Option(help="Id of the corpus")],
    base: Annotated[str, typer.Option(help="starter, a folder, or a hub id")] = "starter",
    method: Annotated[str, typer.Option(help="hydralora, lora, ...")] = "hydralora",
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}")] = "Quick",
    experts: Annotated[int | None, typer.Option(help="Number of heads B")] = None,
    rank: Annotated[int | None, typer.Option(help="Width of A and B")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in one pass")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order")] = None,
    name: Annotated[str, typer.Option(help="Name of the run")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: train.eval_every=25")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a training run in the background."""
    if preset.capitalize() not in PRESETS:
        raise UserError(f"`--preset` must be one of {', '.join(PRESETS)}, got '{preset}'.")
    given = {"max_steps": max_steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    store = Studio.store()
    chosen = settings_of(store, preset.capitalize(), corpus, base, method)
    train = {**chosen, **{name_: value for name_, value in given.items() if value is not None}}
    adapter = {name_: value for name_, value in {"num_experts": experts, "rank": rank}.items() if value is not None}
    config: dict[str, Any] = {"base": base, "method": method, "adapter": adapter, "train": train}
    for text in settings or ():
        part, field, value = parse_setting(text)
        config[part][field] = value
    run = store.start_run(corpus, config, name=name)
    start_worker(store.home)
    follow(store, run, wait, as_json)


def follow(store: Store, run: Run, wait: bool, as_json: bool) -> None:
    """Answer at once, or wait for the end of a run and answer then."""
    if wait:
        done = wait_for(store, run.job, f"Run {run.id}")
        run = store.run(run.id)
    answer = run_view(run)
    show(answer, as_json, lambda: print_run(answer))
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
    corpus: Annotated[int | None, typer.Option(help="Id of the corpus to measure it on")] = None,
    name: Annotated[str, typer.Option(help="Name of the run")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    as_json: AsJson = False,
) -> None:
    """Take in an adapter from elsewhere: PEFT's, ours, or the authors' HydraLoRA."""
    store = Studio.store()
    run = store.import_run(adapter_files(files), base=base, corpus_id=corpus, name=name or adapter_name(files))
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
    answer = [run_view(run) for run in Studio.store().runs()]
    rows = [[a["run_id"], a["name"], a["method"], a["status"], f"{a['progress']:.0%}"] for a in answer]
    show(answer, as_json, lambda: print_table(["id", "name", "method", "status", "progress"], rows))


@runs_app.command("show")
def show_run(run_id: int, as_json: AsJson = False) -> None:
    """Show one run."""
    run = Studio.store().run(run_id)
    answer = {**run_view(run), "config": run.config}
    show(answer, as_json, lambda: print_run(answer))


@runs_app.command("stop")
def stop_run(run_id: int, wait: Annotated[bool, typer.Option("--wait")] = False, as_json: AsJson = False) -> None:
    """Stop a run; it writes a checkpoint first."""
    store = Studio.store()
    run = store.stop_run(run_id)
    if wait:
        wait_for(store, run.job, "Stopping")
    answer = run_view(store.run(run_id))
    show(answer, as_json, lambda: print_run(answer))


@runs_app.command("resume")
def resume_run(run_id: int, wait: Annotated[bool, typer.Option("--wait")] = False, as_json: AsJson = False) -> None:
    """Go on with a stopped, failed or lost run from its last checkpoint; look for an imported adapter's base again."""
    store = Studio.store()
    run = store.resume_run(run_id)
    start_worker(store.home)
    follow(store, run, wait, as_json)


@runs_app.command("export")
def export_run(
    run_id: int,
    how: Annotated[str, typer.Option(help=f"{', '.join(EXPORTS)}")] = "mean_gate",
    corpus: Annotated[int | None, typer.Option(help="Corpus of an imported adapter that has none")] = None,
    to: Annotated[Path | None, typer.Option(help="Copy the files into this new folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a run's adapter into plain LoRAs that PEFT alone loads, or merge it; the gap is measured."""
    if to is not None and to.exists():
        raise UserError(f"{to} exists already. Name a folder that does not.")
    store = Studio.store()
    if corpus is not None:
        store.use_corpus(run_id, corpus)
    analysis = store.export(run_id, how)
    start_worker(store.home)
    result = finished(store, analysis.job, f"Export: {how}").result or {}
    folder = store.home.analysis(analysis.id)
    if to is not None:
        shutil.copytree(folder, to)
    answer = {"run_id": run_id, "how": how, "folder": str(to or folder), **result}

    def lines() -> None:
        out.print(f"{answer['folder']}: {answer['sentence']}")
        print_table(EXPORT_HEAD, [export_row(part) for part in answer["parts"]])

    show(answer, as_json, lines)


@runs_app.command("delete")
def delete_run(run_id: int, yes: Yes = False) -> None:
    """Delete a run with its checkpoints."""
    if yes or typer.confirm(f"Delete run {run_id} for good?", err=True):
        Studio.store().delete_run(run_id)
