"""How the matrices of a run move from their start through its checkpoints to the end.

Stored beside the figures of every step (``weights.py``), so that one can scrub through them:

- ``a_moved``: ``|A_t - A_0| / |A_0|``, how far A has moved from its random start;
- ``a_kept``: overlap of the spaces that ``A_t`` and ``A_0`` read, 1 where A still reads the same;
- ``router_moved``: ``|W_t - W_0| / |W_0|`` of the router, absent without one;
- ``similarity``: mean |cosine| between the updates ``B_i A`` of different heads;
- ``norm``: mean norm of the updates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from hydralora.adapters.matrices import read_modules
from hydralora.analysis.maps import column_space
from hydralora.analysis.runs import facts_of
from hydralora.analysis.weights import compare_adapter, heads_of
from hydralora.files import START, WEIGHTS, list_checkpoints
from hydralora.progress import SILENT, Progress
from hydralora.results import DriftRow, HeadFigures, Weights


def find_steps(run_folder: Path) -> dict[int, Path]:
    """Step and folder of every stored state of a run's adapter, in order; 0 is the untrained start.

    Raises:
        AdapterError: When the run has no finished adapter.
    """
    facts = facts_of(run_folder)
    found = {step: run_folder / "checkpoints" / f"checkpoint-{step}" for step in list_checkpoints(run_folder)}
    if (run_folder / START / WEIGHTS).exists():
        found[0] = run_folder / START
    found[facts.summary.steps or max(found, default=0) + 1] = run_folder / "adapter"
    return dict(sorted(found.items()))


def measure_weights(run_folder: Path, out_folder: Path, *, progress: Progress = SILENT) -> Weights:
    """Compare the heads at every stored step; writes ``weights.json`` and ``weights-STEP.json``.

    Raises:
        AdapterError: When the run is unfinished, or its method has no A and B matrices.
        StoppedError: When asked to stop.
    """
    steps = find_steps(run_folder)
    start = {m.name: m.a for m in read_modules(steps[0])} if 0 in steps else None
    rows: list[DriftRow] = []
    for place, (step, folder) in enumerate(steps.items()):
        part = progress.part(place / len(steps), (place + 1) / len(steps), f"Step {step:,}: ")
        heads = heads_of(compare_adapter(folder, part)).write(out_folder, step=step)
        row = _row(step, heads.layers)
        rows.append(row.model_copy(update=_moved(folder, start, steps[0])) if start else row)
    result = Weights(
        layers=heads.layers,
        sentence=heads.sentence,
        steps=list(steps),
        drift=rows,
        drift_sentence=describe_drift(rows),
    )
    return result.write(out_folder)


def _row(step: int, figures: list[HeadFigures]) -> DriftRow:
    pairs = [value for f in figures for value, _ in f.pairs("update_cosine")]
    chance = [level for f in figures for _, level in f.pairs("update_cosine")]
    return DriftRow(
        step=step,
        similarity=float(np.mean(pairs)) if pairs else None,
        chance=float(np.mean(chance)) if pairs else None,
        norm=float(np.mean([norm for f in figures for norm in f.update_norm])),
        trained=all(f.trained for f in figures),
    )


def _moved(folder: Path, start: dict[str, torch.Tensor], start_folder: Path) -> dict[str, float | None]:
    """The fields of a ``DriftRow`` that are measured against the start, whose A ``(r, in)`` are given by layer."""
    moved, kept = [], []
    for module in read_modules(folder):
        first = start.get(module.name)
        if first is None or first.shape != module.a.shape or not first.norm() > 0:
            continue
        moved.append(float((module.a - first).norm() / first.norm()))
        both = column_space(first.T).T @ column_space(module.a.T)  # (r, r), cosines between the spaces
        kept.append(float(both.square().sum() / first.shape[0]))
    if not moved:
        return {}
    routers = _router_moves(start_folder, folder)
    return {
        "a_moved": float(np.mean(moved)),
        "a_kept": float(np.mean(kept)),
        "router_moved": float(np.mean(routers)) if routers else None,
    }


def _router_moves(start_folder: Path, folder: Path) -> list[float]:
    with safe_open(start_folder / WEIGHTS, "pt") as before, safe_open(folder / WEIGHTS, "pt") as after:
        known = set(after.keys())
        names = [key for key in before.keys() if "hydralora_router" in key and key in known]
        pairs = [(before.get_tensor(name).float(), after.get_tensor(name).float()) for name in names]
    return [float((b - a).norm() / a.norm()) for a, b in pairs if a.norm() > 0]


def describe_drift(rows: list[DriftRow]) -> str:
    """One sentence on how the matrices moved."""
    last = rows[-1]
    parts = []
    if last.a_moved is not None:
        parts.append(
            f"A has moved by {last.a_moved:.0%} of its size and still reads {last.a_kept or 0.0:.0%} of the space it "
            "began with"
        )
    similar = [(row.step, row.similarity) for row in rows if row.trained and row.similarity is not None]
    if len(similar) > 1:
        (first, before), (end, after) = similar[0], similar[-1]
        verb = "parted" if before > after else "drew together"
        parts.append(
            f"the heads {verb}: mean |cosine| of their updates {before:.2f} at step {first:,}, {after:.2f} at step "
            f"{end:,}"
        )
    if not parts:
        return "Only one state of this run is stored, so nothing can be said about how it moved."
    return "; ".join(parts)[0].upper() + "; ".join(parts)[1:] + "."
