"""The command `inspect`."""

from __future__ import annotations

import json
from typing import Any

import typer

from jobs.status import JobStatus
from jobs.worker import start_worker
from studio.terminal import (
    FAILED,
    AsJson,
    Studio,
    out,
    print_table,
    show,
    wait_for,
)

LOOKS = ("answers", "routing", "weights")  # what `inspect` measures


def inspect_run(run_id: int, as_json: AsJson = False) -> None:
    """Compare answers before and after, measure how the experts are used and how alike the heads are."""
    store = Studio.store()
    answer: dict[str, Any] = {"run_id": run_id}
    start_worker(store.home)
    for kind in LOOKS:
        analysis = store.analyse(run_id, kind)
        done = wait_for(store, analysis.job, f"Analysis: {kind}")
        if done.status != JobStatus.SUCCEEDED:
            answer[kind] = {"error": done.error or done.status}
            continue
        answer[kind] = json.loads((store.home.analysis(analysis.id) / f"{kind}.json").read_text("utf-8"))

    def lines() -> None:
        for kind in LOOKS:
            out.print(answer[kind].get("error") or answer[kind]["sentence"])
        for name, group in answer["routing"].get("groups", {}).items():
            out.print(f"{name}: {group['sentence']}")
        if "mean" in answer["routing"]:
            experts = [f"E{e + 1}" for e in range(answer["routing"]["experts"])]
            rows = [
                [layer, *(f"{g:.2f}" for g in gates)]
                for layer, gates in zip(answer["routing"]["layers"], answer["routing"]["mean"], strict=True)
            ]
            print_table(["layer", *experts], rows)

    show(answer, as_json, lines)
    if all("error" in answer[kind] for kind in LOOKS):
        raise typer.Exit(FAILED)
