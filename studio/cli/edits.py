"""The commands `corpora edit`, `edits` and `revert`: rows with another text, over an import that stays as it was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.corpus.folder import Corpus as Rows
from studio.cli.terminal import AsJson, CorpusId, Studio, out, print_table, show

SHOWN_TEXT = 80  # characters

edits_app = typer.Typer(no_args_is_help=True)
EditId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the edit")]


@edits_app.command("edit")
def edit(
    corpus_id: CorpusId,
    row: Annotated[int, typer.Argument(min=0, max=LARGEST_ID, help="Position of the example, from 0")],
    prompt: Annotated[str | None, typer.Option(help="The new prompt; left out, it stays")] = None,
    answer: Annotated[str | None, typer.Option(help="The new answer, or text; left out, it stays")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a row another prompt or answer. The import stays as it was; `corpora revert` takes the edit back."""
    store = Studio.store()
    store.corpora.ready(corpus_id)
    store.edits.layer(corpus_id)
    (example,) = Rows(store.home.corpus(corpus_id)).take([row])
    made = store.edits.add(
        corpus_id, row, example.prompt if prompt is None else prompt, example.answer if answer is None else answer
    )
    show(asdict(made), as_json, lambda: out.print(f"Edit {made.id}: row {row} has another text."))


@edits_app.command("edits")
def edits(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """List what was edited, newest first."""
    store = Studio.store()
    store.corpora.get(corpus_id)
    found = store.edits.all(corpus_id)
    rows: list[list[object]] = [
        [one.id, one.position, _short(one.prompt), _short(one.answer), "taken back" if one.undone_at else "edited"]
        for one in found
    ]
    head = ["id", "row", "prompt", "answer or text", "state"]
    show([asdict(one) for one in found], as_json, lambda: print_table(head, rows))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else line[:SHOWN_TEXT] + "…"


@edits_app.command("revert")
def revert(
    edit_id: EditId,
    again: Annotated[bool, typer.Option("--again", help="Make an edit that was taken back again")] = False,
    as_json: AsJson = False,
) -> None:
    """Take an edit back: the row is what it was before."""
    store = Studio.store()
    changed = (store.edits.redo if again else store.edits.undo)(edit_id)
    done = "is edited again" if again else "is what it was before"
    show(asdict(changed), as_json, lambda: out.print(f"Row {changed.position} {done}."))
