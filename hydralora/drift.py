"""How the matrices of a run move from their start through its checkpoints to the end.

Stored beside the figures of every step (``weights.py``), so that one can scrub through them:

- ``a_moved``: ``|A_t - A_0| / |A_0|``, how far A has moved from its random start;
- ``a_kept``: overlap of the spaces that ``A_t`` and ``A_0`` read, 1 where A still reads the same;
- ``router_moved``: ``|W_t - W_0| / |W_0|`` of the router, absent without one;
- ``likeness``: mean |cosine| between the updates ``B_i A`` of different heads;
- ``norm``: mean norm of the updates.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from hydralora.base import read_adapter_facts
from hydralora.checkpoints import START, WEIGHTS, list_checkpoints, write_json
from hydralora.errors import AdapterError
from hydralora.maps import column_space
from hydralora.matrices import read_modules
from hydralora.weights import HeadFigures, compare_adapter, weights_result


def find_steps(run_folder: Path) -> dict[int, Path]:
    """Step and folder of every stored state of a run's adapter, in order; 0 is the untrained start.

    Raises:
        AdapterError: When the run has no finished adapter.
    """
    facts = read_adapter_facts(run_folder / "adapter")
    if facts is None:
        raise AdapterError("This run has no finished adapter yet. Wait for it, or resume it.")
    found = {step: run_folder / "checkpoints" / f"checkpoint-{step}" for step in list_checkpoints(run_folder)}
    if (run_folder / START / WEIGHTS).exists():
        found[0] = run_folder / START
    found[facts.get("summary", {}).get("steps", max(found, default=0) + 1)] = run_folder / "adapter"
    return dict(sorted(found.items()))


def measure_weights(
    run_folder: Path, out_folder: Path, *,
    report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Compare the heads at every stored step; writes ``weights.json`` and ``weights-STEP.json``.

    Raises:
        AdapterError: When the run is unfinished, or its method has no A and B matrices.
        StoppedError: When asked to stop.
    """
    steps = find_steps(run_folder)
    start = {m.name: m.a for m in read_modules(steps[0])} if 0 in steps else None
    out_folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for place, (step, folder) in enumerate(steps.items()):

        def part(share: float, text: str, place: int = place, step: int = step) -> None:
            report((place + share) / len(steps), f"Step {step:,}: {text}")

        figures = compare_adapter(folder, part, should_stop)
        rows.append({"step": step, **_row(figures), **(_moved(folder, start, steps[0]) if start else {})})
        found = weights_result(figures)
        write_json(out_folder / f"weights-{step}.json", found)
    result = {**found, "steps": list(steps), "drift": rows, "drift_sentence": describe_drift(rows)}
    write_json(out_folder / "weights.json", result)
    return result


def _row(figures: list[HeadFigures]) -> dict[str, Any]:
    pairs = [value for f in figures for value, _ in f.pairs("update_cosine")]
    chance = [level for f in figures for _, level in f.pairs("update_cosine")]
    return {
        "likeness": float(np.mean(pairs)) if pairs else None, "chance": float(np.mean(chance)) if pairs else None,
        "norm": float(np.mean([norm for f in figures for norm in f.update_norm])),
        "trained": all(f.trained for f in figures),
    }  # fmt: skip


def _moved(folder: Path, start: dict[str, torch.Tensor], start_folder: Path) -> dict[str, Any]:
    moved, kept = [], []
    for module in read_modules(folder):
        first = start.get(module.name)
        if first is None or first.shape != module.a.shape or not first.norm() > 0:
            continue
        moved.append(float((module.a - first).norm() / first.norm()))
        both = column_space(first.T).T @ column_space(module.a.T)
        kept.append(float(both.square().sum() / first.shape[0]))
    if not moved:
        return {}
    routers = _router_moves(start_folder, folder)
    return {"a_moved": float(np.mean(moved)), "a_kept": float(np.mean(kept)),
            "router_moved": float(np.mean(routers)) if routers else None}  # fmt: skip


def _router_moves(start_folder: Path, folder: Path) -> list[float]:
    with safe_open(start_folder / WEIGHTS, "pt") as before, safe_open(folder / WEIGHTS, "pt") as after:
        known = set(after.keys())
        names = [key for key in before.keys() if "hydralora_router" in key and key in known]
        pairs = [(before.get_tensor(name).float(), after.get_tensor(name).float()) for name in names]
    return [float((b - a).norm() / a.norm()) for a, b in pairs if a.norm() > 0]


def describe_drift(rows: list[dict[str, Any]]) -> str:
    """One sentence on how the matrices moved."""
    last = rows[-1]
    parts = []
    if "a_moved" in last:
        parts.append(f"A has moved by {last['a_moved']:.0%} of its size and still reads {last['a_kept']:.0%} of the "
                     "space it began with")  # fmt: skip
    trained = [row for row in rows if row["trained"] and row["likeness"] is not None]
    if len(trained) > 1:
        first = trained[0]
        verb = "parted" if first["likeness"] > last["likeness"] else "drew together"
        parts.append(f"the heads {verb}: mean |cosine| of their updates {first['likeness']:.2f} at step "
                     f"{first['step']:,}, {last['likeness']:.2f} at step {last['step']:,}")  # fmt: skip
    if not parts:
        return "Only one state of this run is stored, so nothing can be said about how it moved."
    return "; ".join(parts)[0].upper() + "; ".join(parts)[1:] + "."
