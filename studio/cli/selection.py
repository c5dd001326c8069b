"""The commands `corpora select`, `selections`, `forget` and `map`: which examples meet all that is asked for at
once, and what is done with them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.narrowing import languages
from hydralora.corpus.query import Query
from hydralora.corpus.writing import check_format, write_examples
from hydralora.errors import UserError
from jobs.runner.service import start_worker
from jobs.store.selections import Selected, Selection, checked_query
from jobs.store.store import Store
from studio.cli.quality import parse_rows
from studio.cli.terminal import AsJson, CorpusId, Studio, finished, out, print_table, show
from studio.selections import count_sentence, flags_sentence

SHOWN = 10  # examples listed where nothing else is asked for
SHOWN_TEXT = 80  # characters of each

selection_app = typer.Typer(no_args_is_help=True)
SelectionId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the selection")]


@selection_app.command("select")
def select(
    corpus_id: CorpusId,
    search: Annotated[str, typer.Option(help="Plain text in prompt, answer or history, case aside")] = "",
    label: Annotated[list[str] | None, typer.Option(help="One of the corpus' labels (repeat: any of them)")] = None,
    cluster: Annotated[list[int] | None, typer.Option(min=1, help="1 is C1 (repeat: any of them)")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Code such as de, by the last check (repeat)")] = None,
    flag: Annotated[list[str] | None, typer.Option(help="Kind of a finding of the last check (repeat)")] = None,
    min_tokens: Annotated[int | None, typer.Option(help="Fewest tokens, as the last check counted them")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens")] = None,
    min_length: Annotated[int | None, typer.Option(help="Fewest characters of prompt and answer together")] = None,
    max_length: Annotated[int | None, typer.Option(help="Most characters")] = None,
    left_out: Annotated[bool | None, typer.Option("--left-out/--not-left-out", help="By what is left out")] = None,
    selection: Annotated[int | None, typer.Option(help="A named selection, by its id")] = None,
    rows: Annotated[str, typer.Option(help="Examples by position from 0, such as 3,10-19")] = "",
    name: Annotated[str, typer.Option(help="Keep what is selected under this name")] = "",
    exclude: Annotated[bool, typer.Option("--exclude", help="Leave what is selected out of every later run")] = False,
    export: Annotated[Path | None, typer.Option(help="Write it; the ending (.jsonl, .csv, .parquet) says how")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the number only")] = False,
    as_json: AsJson = False,
) -> None:
    """Select examples by everything that is named at once; list, count, name, export or exclude them."""
    store = Studio.store()
    asked = {
        "search": search,
        "labels": label or [],
        "clusters": [number - 1 for number in cluster or []],
        "languages": language or [],
        "flags": flag or [],
        **{"min_tokens": min_tokens, "max_tokens": max_tokens, "min_length": min_length, "max_length": max_length},
        "left_out": {None: "", True: "yes", False: "no"}[left_out],
        "saved": selection,
        "rows": parse_rows(rows).tolist() if rows else [],
    }
    query = checked_query(asked)
    found = store.selections.find(corpus_id, query)
    done = _act(store, corpus_id, query, found, name, exclude, export)
    answer: dict[str, Any] = {
        "corpus_id": corpus_id,
        "selected": len(found.positions),
        "of": found.of,
        "left_out": found.left_out,
    }
    told = languages(Rows(store.home.corpus(corpus_id)))
    answer |= {"flags": {kind: list(counts) for kind, counts in found.flags.items()}, **done}
    answer |= {} if told is None else {"languages": told.counts(found.mask)}
    if count and not as_json:
        out.print(str(len(found.positions)))
        return
    answer |= {} if count else {"positions": found.positions.tolist()}
    show(answer, as_json, lambda: _print(store, corpus_id, query, found, done))


def _act(
    store: Store, corpus_id: int, query: Query, found: Selected, name: str, exclude: bool, export: Path | None
) -> dict[str, Any]:
    """Name, export and exclude what was selected, in this order; what was done."""
    done: dict[str, Any] = {}
    if export is not None:
        check_format(export.suffix.lstrip(".").lower())
        if not len(found.positions):
            raise UserError("No example is selected, so there is nothing to export. Widen the selection.")
    if exclude and query.is_empty:
        raise UserError("Say which examples to exclude: leaving out all of them leaves nothing.")
    if name:
        done["selection_id"] = store.selections.add(corpus_id, name, query).id
    if export is not None:
        corpus = Rows(store.home.corpus(corpus_id))
        write_examples(corpus, found.positions.tolist(), export, export.suffix.lstrip(".").lower())
        done["file"] = str(export)
    if exclude:
        done["exclusion_id"] = store.exclusions.add(corpus_id, found.positions, query.words()).id
    return done


def _print(store: Store, corpus_id: int, query: Query, found: Selected, done: dict[str, Any]) -> None:
    out.print(". ".join(filter(None, [count_sentence(found, query), flags_sentence(found)])) + ".")
    for key, words in (("selection_id", "Selection"), ("exclusion_id", "Exclusion")):
        if key in done:
            out.print(f"{words} {done[key]} holds them.")
    if "file" in done:
        out.print(f"They are in {done['file']}.")
    if done:
        return
    positions = found.positions[:SHOWN].tolist()
    examples = Rows(store.home.corpus(corpus_id)).take(positions)
    lines: list[list[object]] = [
        [position, _short(example.prompt), _short(example.answer)]
        for position, example in zip(positions, examples, strict=True)
    ]
    if lines:
        print_table(["row", "prompt", "answer or text"], lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_TEXT else line[:SHOWN_TEXT] + "…"


@selection_app.command("map")
def place_rows(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """Place the rows of a clustered corpus anew by UMAP, which keeps neighbours together; it takes a while."""
    store = Studio.store()
    job = store.layouts.add(corpus_id)
    start_worker(store.home)
    done = finished(store, job, "Placing the rows")
    found = done.result or {}
    show({"corpus_id": corpus_id, **found}, as_json, lambda: out.print(f"{found['examples']:,} rows are placed."))


@selection_app.command("selections")
def selections(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """List the named selections of a corpus."""
    store = Studio.store()
    store.corpora.get(corpus_id)
    found = store.selections.all(corpus_id)
    rows: list[list[object]] = [[one.id, one.name, one.count, one.words] for one in found]
    head = ["id", "name", "examples", "asked for"]
    show([asdict(one) for one in found], as_json, lambda: print_table(head, rows))


@selection_app.command("forget")
def forget(selection_id: SelectionId, as_json: AsJson = False) -> None:
    """Delete the name of a selection; its examples stay where they are."""
    gone: Selection = Studio.store().selections.delete(selection_id)
    show(asdict(gone), as_json, lambda: out.print(f"Selection {gone.id} '{gone.name}' is deleted."))
