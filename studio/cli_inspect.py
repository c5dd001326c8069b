"""The command `inspect`: a run of the studio, or the folder of any adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.errors import UserError
from jobs.analyses import ON_CORPUS
from jobs.breakdown import describe_breakdown, find_breakdown, start_breakdown
from jobs.records import Analysis
from jobs.status import JobStatus
from jobs.store import Store
from jobs.worker import start_worker
from studio.notebook import inspect_adapter
from studio.terminal import (
    FAILED,
    AsJson,
    Studio,
    finished,
    out,
    print_table,
    show,
    wait_for,
)

MAP = {"which": "B", "layout": "pca", "seed": 0, "likeness": "cosine"}  # as the page first asks for it
LOOKS: dict[str, dict[str, Any]] = {"answers": {}, "routing": {}, "weights": {}, "experts": {}, "map": MAP}


def inspect_run(
    run_id: Annotated[int | None, typer.Argument(help="Id of a finished run")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Look into a folder with a saved adapter instead")] = None,
    beside: Annotated[list[int] | None, typer.Option(help="Another run to compare it with (repeat)")] = None,
    corpus: Annotated[int | None, typer.Option(help="Measure on this corpus instead of the run's own")] = None,
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
    store.run(run_id)
    start_worker(store.home)
    answer: dict[str, Any] = {"run_id": run_id}
    if breakdown:
        answer["compare"] = compare(store, break_down(store, run_id, own_seeds))
    elif beside:
        answer["compare"] = compare(store, [run_id, *beside])
    else:
        if corpus is not None:
            store.ready_corpus(corpus)
        on = store.measured_on(store.run(run_id), corpus)
        for kind, params in LOOKS.items():
            answer[kind] = look_at(store, run_id, kind, params, on)
    show(answer, as_json, lambda: print_looks(answer))
    if all("error" in found for kind, found in answer.items() if kind != "run_id"):
        raise typer.Exit(FAILED)


def inspect_folder(folder: Path, as_json: bool) -> None:
    """The matrices of an adapter made anywhere."""
    found = inspect_adapter(folder)
    answer = {"adapter": str(folder), "sentence": found.sentence, **found.numbers}
    show(answer, as_json, lambda: print_looks({"weights": {**found.numbers["weights"]}, **found.numbers}))


def look_at(store: Store, run_id: int, kind: str, params: dict[str, Any], on: dict[str, Any] | None) -> dict[str, Any]:
    """One look; ``error`` where it cannot be taken."""
    try:
        return look(store, store.analyse(run_id, kind, params | (on or {} if kind in ON_CORPUS else {})), kind)
    except UserError as error:
        return {"error": str(error)}


def look(store: Store, analysis: Analysis, kind: str) -> dict[str, Any]:
    """The stored result of an analysis, waited for; ``error`` where it failed."""
    done = wait_for(store, analysis.job, f"Analysis: {kind}")
    if done.status != JobStatus.SUCCEEDED:
        return {"error": done.error or done.status}
    found: dict[str, Any] = json.loads((store.home.analysis(analysis.id) / f"{kind}.json").read_text("utf-8"))
    return found


def break_down(store: Store, run_id: int, own_seeds: bool) -> list[int]:
    """The runs of the breakdown, trained where they are missing."""
    run = store.run(run_id)
    runs = find_breakdown(store, run, own_seeds=own_seeds)
    if not describe_breakdown(runs)["done"] and not any(r.job and not r.job.is_finished for r in runs):
        runs = start_breakdown(store, run_id, own_seeds=own_seeds)
    for one in runs:
        finished(store, one.job, f"Run {one.id}: {one.name}")
    return [one.id for one in runs]


def compare(store: Store, runs: list[int]) -> dict[str, Any]:
    """Several runs beside each other."""
    for run in runs[1:]:
        if store.run(run).summary is None:
            raise UserError(f"Run {run} is not finished ({store.run(run).status}), so there is nothing to compare yet.")
    return look(store, store.analyse(runs[0], "compare", {"other_runs": runs[1:]}), "compare")


def print_looks(answer: dict[str, Any]) -> None:
    """Sentences, and the tables that fit a terminal."""
    for kind, found in answer.items():
        if kind not in ("run_id", "adapter"):
            out.print(found.get("error") or found["sentence"])
    weights = answer.get("weights", {})
    if "drift_sentence" in weights:
        out.print(weights["drift_sentence"])
    for card in answer.get("experts", {}).get("cards", []):
        out.print(f"E{card['expert'] + 1}: {card['sentence']}")
    routing = answer.get("routing", {})
    for name, group in routing.get("groups", {}).items():
        out.print(f"{name}: {group['sentence']}")
    if "mean" in routing:
        experts = [f"E{e + 1}" for e in range(routing["experts"])]
        rows = [
            [layer, *(f"{g:.2f}" for g in gates)]
            for layer, gates in zip(routing["layers"], routing["mean"], strict=True)
        ]
        print_table(["layer", *experts], rows)
