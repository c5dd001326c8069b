"""The commands `runs export` and `runs push`: an adapter for other tools, with the measured gap."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydralora.adapters.card import check_repository
from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.methods import EXPORTS, FORMS
from hydralora.results import Export
from jobs.runner.service import start_worker
from studio.cli.terminal import AsJson, RunId, Studio, finished, out, print_table, show
from studio.exports import EXPORT_HEAD, export_row
from studio.web.packing import copy

exports_app = typer.Typer(no_args_is_help=True)


@exports_app.command("export")
def export_run(
    run_id: RunId,
    how: Annotated[str, typer.Option(help=f"{', '.join(EXPORTS)}")] = "mean_gate",
    form: Annotated[str, typer.Option("--as", help=f"{', '.join(FORMS)}")] = "safetensors",
    corpus: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_ID, help="Corpus of an imported adapter that has none")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Copy the files into this new folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a run's adapter into plain LoRAs, or merge it, for PEFT or for llama.cpp; the gap is measured."""
    if to is not None and to.exists():
        raise UserError(f"{to} exists already. Name a folder that does not.")
    store = Studio.store()
    if corpus is not None:
        store.runs.use_corpus(run_id, corpus)
    analysis = store.analyses.export(run_id, how, form)
    start_worker(store.home)
    export = Export.load(finished(store, analysis.job, f"Export: {how}, {form}").result or {}, "The database")
    folder = store.home.analysis(analysis.id)
    if to is not None:
        copy(folder, to)
    answer = {
        "run_id": run_id,
        "analysis_id": analysis.id,
        "how": how,
        "form": form,
        "folder": str(to or folder),
        **export.row(),
    }

    def lines() -> None:
        out.print(f"{answer['folder']}: {export.sentence}")
        print_table(EXPORT_HEAD, [export_row(part) for part in export.parts])

    show(answer, as_json, lines)


@exports_app.command("push")
def push_run(
    run_id: RunId,
    repository: Annotated[str, typer.Argument(help="owner/name on the hub; made where there is none")],
    how: Annotated[str, typer.Option(help=f"{', '.join(EXPORTS)}")] = "mean_gate",
    form: Annotated[str, typer.Option("--as", help=f"{', '.join(FORMS)}")] = "safetensors",
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a repository that is made")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a run and send it to the hub with a model card; the token is taken from HF_TOKEN."""
    store = Studio.store()
    check_repository(repository)
    analysis = store.analyses.export(run_id, how, form)
    start_worker(store.home)
    finished(store, analysis.job, f"Export: {how}, {form}")
    done = finished(store, store.analyses.push(analysis.id, repository, private=not public), "Push")
    answer = {"run_id": run_id, "analysis_id": analysis.id, "how": how, "form": form, **(done.result or {})}
    show(answer, as_json, lambda: out.print(answer["sentence"]))
