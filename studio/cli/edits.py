"""The commands `corpora edit`, `turns`, `edits` and `revert`: rows with another text, over an import that stays."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.turns import SYSTEM, turns_of
from hydralora.errors import UserError
from jobs.store.store import Store
from studio.cli.terminal import AsJson, CorpusId, Studio, out, print_table, show
from studio.edits import changed_words

SHOWN_TEXT = 80  # characters

edits_app = typer.Typer(no_args_is_help=True)
Position = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, help="Position of the example, from 0")]
EditId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the edit")]


@edits_app.command("edit")
def edit(
    corpus_id: CorpusId,
    row: Position,
    prompt: Annotated[str | None, typer.Option(help="The new prompt; left out, it stays")] = None,
    answer: Annotated[str | None, typer.Option(help="The new answer, or text; left out, it stays")] = None,
    turn: Annotated[str, typer.Option(help="A turn of a conversation: its number in `corpora turns`, or system")] = "",
    text: Annotated[str | None, typer.Option(help="The new text of that turn; left out, it stays")] = None,
    calls: Annotated[str | None, typer.Option(help="Its calls of tools, a JSON list; left out, they stay")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a row another prompt or answer, or one of its turns another text. The import stays as it was; `corpora
    revert` takes the edit back."""
    store = Studio.store()
    if turn and (prompt, answer) != (None, None):
        raise UserError("Give `--prompt` and `--answer`, or `--turn` with `--text` or `--calls`: one edit at a time.")
    if not turn and (text, calls) != (None, None):
        raise UserError("`--text` and `--calls` are a turn's. Name it with `--turn`; `corpora turns` lists them.")
    if turn:
        made = store.edits.add_turn(corpus_id, row, _place(turn), text, calls)
    else:
        example = _example(store, corpus_id, row)
        made = store.edits.add(
            corpus_id, row, example.prompt if prompt is None else prompt, example.answer if answer is None else answer
        )
    show(asdict(made), as_json, lambda: out.print(f"Edit {made.id}: row {row} has another text."))


def _place(turn: str) -> int:
    if turn == "system":
        return SYSTEM
    if not (turn.isascii() and turn.isdecimal() and len(turn) < 16):
        raise UserError(f"`--turn` takes a number, or system; got {turn[:40]!r}. `corpora turns` lists the turns.")
    return int(turn)


def _example(store: Store, corpus_id: int, row: int) -> Example:
    """A row as it is now."""
    store.corpora.ready(corpus_id)
    store.edits.layer(corpus_id)
    return Rows(store.home.corpus(corpus_id)).take([row])[0]


@edits_app.command("turns")
def turns(corpus_id: CorpusId, row: Position, as_json: AsJson = False) -> None:
    """List the turns of a row as it is now, each with the number that `corpora edit --turn` takes."""
    found = turns_of(_example(Studio.store(), corpus_id, row))
    rows: list[list[object]] = [
        ["system" if one.place == SYSTEM else one.place, one.role, _short(one.text), _short(one.calls)] for one in found
    ]
    show([asdict(one) for one in found], as_json, lambda: print_table(["turn", "role", "text", "calls"], rows))


@edits_app.command("edits")
def edits(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """List what was edited, newest first."""
    store = Studio.store()
    store.corpora.get(corpus_id)
    found = store.edits.all(corpus_id)
    rows: list[list[object]] = [
        [
            one.id,
            one.position,
            _short(one.prompt),
            _short(one.answer),
            changed_words(one),
            "taken back" if one.undone_at else "edited",
        ]
        for one in found
    ]
    head = ["id", "row", "prompt", "answer or text", "also", "state"]
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
