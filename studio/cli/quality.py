"""The commands `corpora check`, `exclude`, `exclusions`, `undo`, `redo`, `shorten` and `export`: what is wrong with a
corpus, what of it is left out or shortened, and what is written out of it."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hydralora.bounds import LARGEST_ID
from hydralora.corpus.clusters.edits import check_numbers
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.quality.findings import read_finding
from hydralora.corpus.writing import check_format, write_examples
from hydralora.errors import UserError
from hydralora.limits import MAX_ROWS
from hydralora.results import Quality
from jobs.runner.service import start_worker
from jobs.store.cluster_edits import exclusion_reason
from jobs.store.exclusions import Exclusion
from jobs.store.store import Store
from studio.cli.bases import base_of_command
from studio.cli.terminal import AsJson, CorpusId, Studio, finished, out, print_table, show

quality_app = typer.Typer(no_args_is_help=True)
ExclusionId = Annotated[int, typer.Argument(min=0, max=LARGEST_ID, show_default=False, help="Id of the exclusion")]
RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@quality_app.command("check")
def check(
    corpus_id: CorpusId,
    base: Annotated[str, typer.Option(help="Base model whose tokens are counted; none without one")] = "",
    max_length: Annotated[int | None, typer.Option(help="Longest example in tokens; that of a new run")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a corpus: what would be cut, copies, contradictions, leaks, empty answers and more."""
    store = Studio.store()
    base = base_of_command(store, base) if base else ""
    settings = {} if max_length is None else {"max_length": max_length}
    job = store.checks.add(corpus_id, base=base, **settings)
    start_worker(store.home)
    finished(store, job, "Checking")
    report = store.checks.latest(corpus_id)
    assert report is not None
    show(report.dump(), as_json, lambda: _print_report(report))


def _print_report(report: Quality) -> None:
    out.print(f"{report.sentence} A new run would train on {report.train:,} and hold out {report.held_out:,}.")
    for finding in report.findings:
        out.print(f"\n{finding.title}\n  {finding.advice}")
        if finding.removable:
            out.print(f"  corpora exclude ID --finding '{finding.kind}' leaves out {finding.removable:,}")
        if finding.shortens:
            out.print(f"  corpora shorten ID --finding '{finding.kind}' shortens {finding.shortens:,}")


@quality_app.command("exclude")
def exclude(
    corpus_id: CorpusId,
    finding: Annotated[str, typer.Option(help="What a finding of the last check would leave out, by its kind")] = "",
    rows: Annotated[str, typer.Option(help="Examples by position from 0, such as 3,10-19")] = "",
    cluster: Annotated[int, typer.Option(min=0, help="All examples of a cluster (1 is C1); 0 is none")] = 0,
    reason: Annotated[str, typer.Option(help="Why; kept with it")] = "",
    as_json: AsJson = False,
) -> None:
    """Leave examples out of every later run. Nothing is deleted; `corpora undo` takes them back."""
    store = Studio.store()
    positions = _chosen(store, corpus_id, finding, rows, cluster, removable=True)
    if positions is None:
        raise UserError("Say what to leave out: one of --finding, --rows and --cluster.")
    why = finding or (_reason(store, corpus_id, cluster) if cluster else "chosen by hand")
    made = store.exclusions.add(corpus_id, positions, reason or why)
    show(asdict(made), as_json, lambda: out.print(f"Exclusion {made.id}: {made.count:,} examples are left out."))


@quality_app.command("shorten")
def shorten(
    corpus_id: CorpusId,
    finding: Annotated[str, typer.Option(help="What the last check found too long: cut or unfit")] = "cut",
    undo: Annotated[int, typer.Option(min=0, max=LARGEST_ID, help="Take this shortening back instead")] = 0,
    redo: Annotated[int, typer.Option(min=0, max=LARGEST_ID, help="Make one that was taken back again")] = 0,
    as_json: AsJson = False,
) -> None:
    """Shorten what the last check found too long for its base and length. The import stays as it was."""
    store = Studio.store()
    if undo or redo:
        one = store.shortenings.undo(undo) if undo else store.shortenings.redo(redo)
        said = "are what they were before" if undo else "are shortened again"
        show(asdict(one), as_json, lambda: out.print(f"{one.count:,} examples {said}."))
        return
    job = store.shortenings.add(corpus_id, finding)
    start_worker(store.home)
    found = finished(store, job, "Shortening").result or {}
    made, left = len(found["positions"]), found["left"]
    words = f"Shortening {job.id}: {made:,} examples are shorter, {left:,} could not be. "
    words += f"`corpora shorten {corpus_id} --undo {job.id}` takes it back."
    answer = {"id": job.id, "corpus_id": corpus_id, "count": made, "left": left}
    show(answer, as_json, lambda: out.print(words))


def parse_rows(text: str) -> np.ndarray:
    """Positions written as `3,10-19`.

    Raises:
        UserError: When it is written in another way, or a range goes backwards or all of them too far.
    """
    parts, count = [], 0
    for part in text.split(","):
        found = RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        count += last + 1 - first
        if not first <= last or count > MAX_ROWS:
            raise UserError(f"`--rows` takes positions such as 3,10-19, got {part.strip()[:40]!r}.")
        parts.append(np.arange(first, last + 1))
    return np.concatenate(parts)


def _members(store: Store, corpus_id: int, cluster: int) -> np.ndarray:
    """Positions of the examples of a cluster as it stands."""
    clustering = store.clusterings.clustered(corpus_id)
    check_numbers(clustering.clusters, [cluster - 1])
    return np.flatnonzero(store.clusterings.numbers(clustering) == cluster - 1)


def _reason(store: Store, corpus_id: int, cluster: int) -> str:
    return exclusion_reason(store.clusterings.clustered(corpus_id).clusters, cluster - 1)


@quality_app.command("export")
def export(
    corpus_id: CorpusId,
    file: Annotated[Path, typer.Argument(help="Where to write; its ending (.jsonl, .csv, .parquet) is the format")],
    finding: Annotated[str, typer.Option(help="Only the examples of a finding of the last check")] = "",
    rows: Annotated[str, typer.Option(help="Only these, by position from 0, such as 3,10-19")] = "",
    cluster: Annotated[int, typer.Option(min=0, help="Only those of a cluster (1 is C1); 0 is all")] = 0,
    all_: Annotated[bool, typer.Option("--all", help="Also what is left out")] = False,
    as_json: AsJson = False,
) -> None:
    """Write examples into a file: those that are not left out, or a part of them."""
    store = Studio.store()
    store.corpora.ready(corpus_id)
    corpus = Rows(store.home.corpus(corpus_id))
    chosen = _chosen(store, corpus_id, finding, rows, cluster)
    wanted = np.arange(len(corpus)) if chosen is None else chosen
    if not all_:
        wanted = np.setdiff1d(wanted, store.exclusions.excluded(corpus_id))
    if not len(wanted):
        raise UserError("There is nothing to write: no example is chosen, or all of them are left out (see --all).")
    write_examples(corpus, wanted.tolist(), file, check_format(file.suffix.lstrip(".").lower()))
    answer = {"corpus_id": corpus_id, "file": str(file), "examples": len(wanted)}
    show(answer, as_json, lambda: out.print(f"{len(wanted):,} examples are in {file}."))


def _chosen(store: Store, corpus_id: int, finding: str, rows: str, cluster: int, *, removable: bool = False) -> Any:
    """The positions that a command names, in one way of three; None where it names none.

    Raises:
        UserError: When it names some in two ways.
    """
    if sum(map(bool, (finding, rows, cluster))) > 1:
        raise UserError("Say which examples in one way: --finding, --rows or --cluster.")
    if finding:
        return read_finding(store.home.corpus(corpus_id), finding, removable=removable)
    if cluster:
        return _members(store, corpus_id, cluster)
    return parse_rows(rows) if rows else None


@quality_app.command("exclusions")
def exclusions(corpus_id: CorpusId, as_json: AsJson = False) -> None:
    """List what is left out of a corpus, and what was taken back."""
    store = Studio.store()
    store.corpora.get(corpus_id)
    found = store.exclusions.all(corpus_id)
    rows: list[list[object]] = [[e.id, e.count, e.reason, "taken back" if e.undone_at else "left out"] for e in found]
    show(_listed(found), as_json, lambda: print_table(["id", "examples", "reason", "state"], rows))


def _listed(found: list[Exclusion]) -> list[dict[str, Any]]:
    return [asdict(exclusion) for exclusion in found]


@quality_app.command("undo")
def undo(exclusion_id: ExclusionId, as_json: AsJson = False) -> None:
    """Take the examples of an exclusion back."""
    undone = Studio.store().exclusions.undo(exclusion_id)
    show(asdict(undone), as_json, lambda: out.print(f"{undone.count:,} examples are back."))


@quality_app.command("redo")
def redo(exclusion_id: ExclusionId, as_json: AsJson = False) -> None:
    """Leave the examples of an exclusion that was undone out again."""
    done = Studio.store().exclusions.redo(exclusion_id)
    show(asdict(done), as_json, lambda: out.print(f"{done.count:,} examples are left out again."))
