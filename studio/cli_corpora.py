"""The commands `corpora ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.corpus import Corpus as Rows
from hydralora.errors import UserError
from hydralora.samples import CORPORA, GENERATORS
from jobs.store import Store
from jobs.worker import start_worker
from studio.terminal import (
    AsJson,
    Studio,
    Yes,
    finished,
    out,
    print_table,
    show,
)

corpora_app = typer.Typer(no_args_is_help=True, help="Corpora: add, list, show, cluster, delete.")


@corpora_app.command("add")
def add_corpus(
    paths: Annotated[list[str], typer.Argument(help=f"Files of one corpus, or a sample: {', '.join(GENERATORS)}")],
    name: Annotated[str, typer.Option(help="Name; the file's when left out")] = "",
    prompt: Annotated[list[str] | None, typer.Option(help="Column of the prompt (repeat to join several)")] = None,
    answer: Annotated[str, typer.Option(help="Column of the answer")] = "",
    text: Annotated[str, typer.Option(help="Column of plain text")] = "",
    label: Annotated[str, typer.Option(help="Column of a label, never trained on")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a corpus from files and wait until it is read."""
    store = Studio.store()
    is_sample = len(paths) == 1 and paths[0] in GENERATORS and not Path(paths[0]).exists()
    files = [CORPORA / paths[0] / f"{paths[0]}.jsonl"] if is_sample else [Path(path) for path in paths]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file. Give a file, or one of the samples: {', '.join(GENERATORS)}.")
    given = {"prompt": prompt or [], "answer": answer, "text": text, "label": label}
    roles = given if any(given.values()) else None
    corpus = store.add_corpus(name or files[0].name.split(".")[0], files, roles=roles, is_sample=is_sample)
    start_worker(store.home)
    finished(store, corpus.job, f"Reading {files[0].name}")
    corpus_view(store, corpus.id, as_json)


def corpus_view(store: Store, corpus_id: int, as_json: bool) -> None:
    """One corpus as an answer."""
    corpus = store.corpus(corpus_id)
    answer: dict[str, Any] = {"corpus_id": corpus.id, "name": corpus.name, "examples": corpus.examples, "rejected": corpus.rejected,
                              "format": corpus.format, "status": corpus.job.status if corpus.job else None}  # fmt: skip
    if corpus.examples is not None:
        rows = Rows(store.home.corpus(corpus.id))
        refused = [{"file": r.source, "row": r.row, "reason": r.reason} for r in rows.rejected()[:100]]
        answer |= {"roles": rows.manifest["roles"], "shape": rows.manifest["shape"], "refused_rows": refused}
        clustering = store.latest_clustering(corpus.id, finished=True)
        answer["suggested_k"] = clustering.result["suggested_k"] if clustering and clustering.result else None

    def lines() -> None:
        if corpus.examples is None:
            out.print(
                f"Corpus {corpus.id} '{corpus.name}': {answer['status']}. {(corpus.job and corpus.job.error) or ''}"
            )
            return
        out.print(
            f"Corpus {corpus.id} '{corpus.name}': {corpus.examples:,} examples, {corpus.rejected:,} refused rows, {answer['shape']}, {corpus.format}"
        )
        for row in answer["refused_rows"][:10]:
            out.print(f"  {row['file']}: {row['reason']}")

    show(answer, as_json, lines)


@corpora_app.command("list")
def list_corpora(as_json: AsJson = False) -> None:
    """List all corpora."""
    found = Studio.store().corpora()
    answer = [{"corpus_id": c.id, "name": c.name, "examples": c.examples, "rejected": c.rejected} for c in found]
    show(
        answer, as_json, lambda: print_table(["id", "name", "examples", "refused"], [list(a.values()) for a in answer])
    )


@corpora_app.command("show")
def show_corpus(corpus_id: int, as_json: AsJson = False) -> None:
    """Show one corpus."""
    corpus_view(Studio.store(), corpus_id, as_json)


@corpora_app.command("delete")
def delete_corpus(corpus_id: int, yes: Yes = False) -> None:
    """Delete a corpus with its clusterings."""
    if yes or typer.confirm(f"Delete corpus {corpus_id} for good?", err=True):
        Studio.store().delete_corpus(corpus_id)


@corpora_app.command("cluster")
def cluster(
    corpus_id: int,
    k: Annotated[str, typer.Option(help="Number of clusters, or auto")] = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Cluster a corpus and suggest a number of experts."""
    if k != "auto" and not k.isdecimal():
        raise UserError(f"`--k` must be a whole number or auto, got {k!r}.")
    store = Studio.store()
    clustering = store.add_clustering(corpus_id, None if k == "auto" else int(k), seed)
    start_worker(store.home)
    finished(store, clustering.job, "Clustering")
    result = store.clustering(clustering.id).result or {}
    answer = {"corpus_id": corpus_id, "clustering_id": clustering.id,
              **{name: result[name] for name in ("k", "suggested_k", "reason", "sizes", "words")}}  # fmt: skip

    def lines() -> None:
        out.print(f"Suggested number of experts: {answer['suggested_k']}. {answer['reason']}")
        rows = [
            [f"C{i + 1}", size, ", ".join(words)]
            for i, (size, words) in enumerate(zip(answer["sizes"], answer["words"], strict=True))
        ]
        print_table(["cluster", "examples", "words"], rows)

    show(answer, as_json, lines)
