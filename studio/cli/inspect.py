"""The command `inspect`: a run of the studio, or the folder of any adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from hydralora.results import Experts, Result, Routing, Weights
from jobs.breakdown import describe_breakdown, find_breakdown, start_breakdown
from jobs.kind import Kind
from jobs.kinds import kind_of, looks, title_of
from jobs.runner.service import start_worker
from jobs.store.records import Analysis
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.cli.terminal import (
    FAILED,
    AsJson,
    Studio,
    finished,
    out,
    print_table,
    show,
    wait_for,
)
from studio.figures.notebook import inspect_adapter
from studio.figures.palette import expert_name

Look = Result | str  # what was found, or why nothing could be


def inspect_run(
    run_id: Annotated[int | None, typer.Argument(min=0, max=LARGEST_ID, help="Id of a finished run")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Inspect a folder with a saved adapter instead")] = None,
    others: Annotated[
        list[int] | None,
        typer.Option("--compare", min=0, max=LARGEST_ID, help="Another run to compare it with (repeat)"),
    ] = None,
    corpus: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_ID, help="Measure on this corpus instead of the run's own")
    ] = None,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Train one LoRA per cluster and compare them")] = False,
    own_seeds: Annotated[bool, typer.Option("--own-seeds", help="Start each of these from its own seed")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare answers, measure how experts are used, mute each, and see how alike the heads are."""
    if adapter is not None:
        inspect_folder(adapter, as_json)
        return
    if run_id is None:
        raise UserError("Name a run by its id, or a folder with `--adapter`.")
    store = Studio.store()
    store.runs.get(run_id)
    start_worker(store.home)
    found: dict[str, Look] = {}
    if breakdown:
        found["compare"] = compare(store, break_down(store, run_id, own_seeds))
    elif others:
        found["compare"] = compare(store, [run_id, *others])
    else:
        if corpus is not None:
            store.corpora.ready(corpus)
        on = store.analyses.measured_on(store.runs.get(run_id), corpus)
        for kind in looks().values():
            if kind.look is not None:
                found[kind.name] = look_at(store, run_id, kind, on)
    show({"run_id": run_id, **dumped(found)}, as_json, lambda: print_looks(found))
    if all(isinstance(one, str) for one in found.values()):
        raise typer.Exit(FAILED)


def inspect_folder(folder: Path, as_json: bool) -> None:
    """The matrices of an adapter made anywhere."""
    found = inspect_adapter(folder)
    answer = {"adapter": str(folder), "sentence": found.sentence, **found.numbers}
    show(answer, as_json, lambda: print_looks(found.results))


def dumped(found: Mapping[str, Look]) -> dict[str, Any]:
    """Looks as JSON; ``error`` where one could not be taken."""
    return {name: {"error": one} if isinstance(one, str) else one.dump() for name, one in found.items()}


def look_at(store: Store, run_id: int, kind: Kind, on: dict[str, Any] | None) -> Look:
    """One look, or why it cannot be taken."""
    params = {**(kind.look or {}), **((on or {}) if kind.on_corpus else {})}
    try:
        return look(store, store.analyses.ask(run_id, kind.name, params), kind.name)
    except UserError as error:
        return str(error)


def look(store: Store, analysis: Analysis, kind: str) -> Look:
    """The stored result of an analysis, waited for, or why it failed."""
    done = wait_for(store, analysis.job, f"Analysis: {title_of(kind)}")
    if done.status != JobStatus.SUCCEEDED:
        return done.error or done.status
    found = kind_of(kind).result
    assert found is not None  # a kind that can be looked at has one
    return found.read(store.home.analysis(analysis.id))


def break_down(store: Store, run_id: int, own_seeds: bool) -> list[int]:
    """The runs of the breakdown, trained where they are missing."""
    run = store.runs.get(run_id)
    runs = find_breakdown(store, run, own_seeds=own_seeds)
    if not describe_breakdown(runs)["done"] and not any(r.job and not r.job.is_finished for r in runs):
        runs = start_breakdown(store, run_id, own_seeds=own_seeds)
    for one in runs:
        finished(store, one.job, f"Run {one.id}: {one.name}")
    return [one.id for one in runs]


def compare(store: Store, runs: list[int]) -> Look:
    """Several runs beside each other."""
    for run in runs[1:]:
        if store.runs.get(run).summary is None:
            raise UserError(
                f"Run {run} is not finished ({store.runs.get(run).status}), so there is nothing to compare yet."
            )
    return look(store, store.analyses.ask(runs[0], "compare", {"other_runs": runs[1:]}), "compare")


def print_looks(found: Mapping[str, Look]) -> None:
    """Sentences, and the tables that fit a terminal."""
    for one in found.values():
        out.print(one if isinstance(one, str) else getattr(one, "sentence", ""))
        if isinstance(one, Weights):
            out.print(one.drift_sentence)
        if isinstance(one, Experts):
            for card in one.cards:
                out.print(f"{expert_name(card.expert)}: {card.sentence}")
        if isinstance(one, Routing):
            print_routing(one)


def print_routing(routing: Routing) -> None:
    """Whether gates follow groups, and the mean gates of every layer."""
    for name, group in routing.groups.items():
        out.print(f"{name}: {group.sentence}")
    rows: list[list[object]] = [
        [layer, *(f"{gate:.2f}" for gate in gates)] for layer, gates in zip(routing.layers, routing.mean, strict=True)
    ]
    print_table(["layer", *map(expert_name, range(routing.experts))], rows)
