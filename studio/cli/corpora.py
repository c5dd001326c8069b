"""The commands `corpora ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bounds import LONGEST_EXAMPLE, BaseName, checked
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.hub import PREFIX
from hydralora.corpus.preview import preview_files
from hydralora.errors import UserError
from hydralora.results import ImportOptions, Roles
from hydralora.samples import CORPORA, GENERATORS
from jobs.runner.service import start_worker
from jobs.store.records import Corpus
from jobs.store.store import Store
from studio.cli.bases import base_of_command
from studio.cli.given_roles import (
    Answer,
    Answers,
    FileNames,
    GivenRoles,
    Label,
    Prompt,
    Read,
    Text,
    Unwrap,
    options_of,
    roles_of,
)
from studio.cli.imports import print_manifest, print_preview
from studio.cli.terminal import (
    AsJson,
    CorpusId,
    Studio,
    Yes,
    finished,
    out,
    print_table,
    show,
)

IMPORT_IT = "`corpora import {}` imports it."

corpora_app = typer.Typer(
    no_args_is_help=True,
    help="Corpora: preview, add, import, roles, list, show, check, exclude, exclusions, undo, redo, shorten, select, "
    "selections, forget, edit, turns, edits, revert, export, cluster, clusters, map, why, delete.",
)


@corpora_app.command("add")
def add_corpus(
    paths: Annotated[
        list[str],
        typer.Argument(
            help=f"Files or folders of one corpus; hub:owner/name, a data set of the hub; or a sample: "
            f"{', '.join(GENERATORS)}"
        ),
    ],
    name: Annotated[str, typer.Option(help="Name; the file's when left out")] = "",
    roles: GivenRoles = None,
    prompt: Prompt = None,
    answer: Answer = "",
    text: Text = "",
    label: Label = "",
    answers: Answers = None,
    file_names: FileNames = None,
    unwrap: Unwrap = None,
    read: Read = None,
    as_json: AsJson = False,
) -> None:
    """Add a corpus from files and wait until it is read."""
    store = Studio.store()
    if paths[0].startswith(PREFIX):
        wanted = roles_of(roles, prompt, answer, text, label), options_of(answers, file_names, unwrap, read)
        corpus_view(store, _fetched(store, paths, name, *wanted).id, as_json)
        return
    is_sample = len(paths) == 1 and paths[0] in GENERATORS and not Path(paths[0]).exists()
    files = [CORPORA / paths[0] / f"{paths[0]}.jsonl"] if is_sample else existing(paths)
    corpus = store.corpora.add(
        name or files[0].name.split(".")[0],
        files,
        roles=roles_of(roles, prompt, answer, text, label),
        options=options_of(answers, file_names, unwrap, read),
        is_sample=is_sample,
    )
    start_worker(store.home)
    finished(store, corpus.job, f"Reading {corpus.name}")
    corpus_view(store, corpus.id, as_json)


def _fetched(
    store: Store, paths: list[str], name: str, roles: dict[str, Any] | None, options: dict[str, Any]
) -> Corpus:
    """A data set of the hub: fetched, then imported."""
    if len(paths) > 1:
        raise UserError(f"`{paths[0]}` is a data set of the hub. Add it alone, and the others as corpora of their own.")
    draft = store.corpora.draft_of_hub(paths[0], name)
    start_worker(store.home)
    finished(store, draft.job, f"Fetching {draft.name}")
    corpus = store.corpora.import_again(draft.id, roles, options)
    finished(store, corpus.job, f"Reading {corpus.name}")
    return corpus


def existing(paths: list[str]) -> list[Path]:
    """Files that exist.

    Raises:
        UserError: Naming the first that does not.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if not file.exists():
            raise UserError(
                f"{file}: no such file. Give a file, a folder, or one of the samples: {', '.join(GENERATORS)}."
            )
    return files


@corpora_app.command("roles")
def correct_roles(
    corpus_id: CorpusId,
    roles: GivenRoles = None,
    prompt: Prompt = None,
    answer: Answer = "",
    text: Text = "",
    label: Label = "",
    answers: Answers = None,
    file_names: FileNames = None,
    unwrap: Unwrap = None,
    read: Read = None,
    as_json: AsJson = False,
) -> None:
    """Show what each column of a corpus is, or read its kept files again; what is not named stays."""
    store = Studio.store()
    wanted = roles_of(roles, prompt, answer, text, label)
    options = options_of(answers, file_names, unwrap, read)
    if wanted is None and not options:
        corpus_view(store, corpus_id, as_json)
        return
    corpus = store.corpora.import_again(corpus_id, wanted, options)
    start_worker(store.home)
    finished(store, corpus.job, f"Reading {corpus.name}")
    corpus_view(store, corpus.id, as_json)


@corpora_app.command("import")
def import_draft(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """Import the files of a corpus that waits on the page, or read them again, as their columns were chosen last."""
    store = Studio.store()
    reading = store.corpora.reading(corpus_id)
    corpus = store.corpora.import_again(corpus_id, reading.given, reading.options.dump())
    start_worker(store.home)
    finished(store, corpus.job, f"Reading {corpus.name}")
    corpus_view(store, corpus.id, as_json)


@corpora_app.command("preview")
def preview_import(
    paths: Annotated[list[str], typer.Argument(help="Files that would become one corpus")],
    roles: GivenRoles = None,
    prompt: Prompt = None,
    answer: Answer = "",
    text: Text = "",
    label: Label = "",
    answers: Answers = None,
    file_names: FileNames = None,
    unwrap: Unwrap = None,
    read: Read = None,
    base: Annotated[str, typer.Option(help="Base model that examples are rendered for")] = "starter",
    max_length: Annotated[int, typer.Option(min=0, max=LONGEST_EXAMPLE, help="In tokens; 0: as a new run")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say what an import would make of files, from their first rows, without importing them."""
    store = Studio.store()
    given = roles_of(roles, prompt, answer, text, label)
    found = preview_files(
        existing(paths),
        roles=checked(Roles, given, "roles") if given else None,
        options=checked(ImportOptions, options_of(answers, file_names, unwrap, read), "options"),
        base=checked(BaseName, base, "--base"),
        max_length=max_length,
        resolve=lambda name: base_of_command(store, name),
    )
    show(found.model_dump(mode="json"), as_json, lambda: print_preview(found))


def corpus_view(store: Store, corpus_id: CorpusId, as_json: bool) -> None:
    """One corpus as an answer."""
    corpus = store.corpora.get(corpus_id)
    answer: dict[str, Any] = {
        "corpus_id": corpus.id,
        "name": corpus.name,
        "examples": corpus.examples,
        "rejected": corpus.rejected,
        "format": corpus.format,
        "status": _status(corpus),
    }
    if corpus.examples is None:
        why = (corpus.job and corpus.job.error) or (IMPORT_IT.format(corpus.id) if corpus.is_draft else "")
        show(answer, as_json, lambda: out.print(f"Corpus {corpus.id} '{corpus.name}': {answer['status']}. {why}"))
        return
    rows = Rows(store.home.corpus(corpus.id))
    answer["rejected_rows"] = [{"file": r.source, "row": r.row, "reason": r.reason} for r in rows.rejected()[:100]]
    kept = ("roles", "shape", "columns", "unused", "reasons", "notes", "counts", "files", "labels", "splits")
    whole = rows.manifest.model_dump(mode="json")
    answer |= {name: whole[name] for name in kept}
    clustering = store.clusterings.latest(corpus.id, finished=True)
    answer["suggested_k"] = clustering.result.suggested_k if clustering and clustering.result else None

    def lines() -> None:
        out.print(
            f"Corpus {corpus.id} '{corpus.name}': {corpus.examples:,} examples, {corpus.rejected:,} "
            f"rejected rows, {answer['shape']}, {corpus.format}"
        )
        print_manifest(rows.manifest)
        for row in answer["rejected_rows"][:10]:
            out.print(f"  {row['file']}: {row['reason']}")

    show(answer, as_json, lines)


@corpora_app.command("list")
def list_corpora(as_json: AsJson = False) -> None:
    """List all corpora."""
    found = Studio.true_store().corpora.all()
    answer = [
        {"corpus_id": c.id, "name": c.name, "examples": c.examples, "rejected": c.rejected, "status": _status(c)}
        for c in found
    ]
    head = ["id", "name", "examples", "rejected", "status"]
    show(answer, as_json, lambda: print_table(head, [list(a.values()) for a in answer]))


def _status(corpus: Corpus) -> str | None:
    """How far its import is."""
    return "not imported yet" if corpus.is_draft else corpus.job.status if corpus.job else None


@corpora_app.command("show")
def show_corpus(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """Show one corpus."""
    corpus_view(Studio.true_store(), corpus_id, as_json)


@corpora_app.command("delete")
def delete_corpus(corpus_id: CorpusId, yes: Yes = False) -> None:
    """Delete a corpus with its clusterings."""
    if yes or typer.confirm(f"Delete corpus {corpus_id} for good?", err=True):
        Studio.store().corpora.delete(corpus_id)
