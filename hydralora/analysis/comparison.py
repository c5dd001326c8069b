"""Several adapters of one base beside each other: do they read, write and change the same?

Raw ``B`` is never compared: ``(B, A)`` and ``(B Q, Q^-1 A)`` are one adapter. Compared are, layer by
layer over the layers they share,

- ``A``: overlap of the spaces that A reads (rows of A);
- ``B``: overlap of the spaces that the heads write (columns of all heads together);
- ``BA``: |cosine| of the whole updates, mean of the heads ``(1/N) sum_i B_i A_i``.

Every number stands beside the 99 % point of random matrices of the same shapes. Where two runs
began from one seed their A began as the same numbers, so the overlap at the start stands there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hydralora.adapters.matrices import Module, count_modules, read_modules
from hydralora.analysis.chance import cosine_level, overlap_level
from hydralora.analysis.maps import column_space
from hydralora.errors import AdapterError
from hydralora.progress import SILENT, Progress
from hydralora.results import Comparison, LayerComparison, PairFigures, PartSummary

PARTS = ("A", "B", "BA")


@dataclass
class Spaces:
    """What is kept of one layer: bases of what A reads ``(in, r)`` and the heads write ``(out, .)``, and the update."""

    reads: torch.Tensor
    writes: torch.Tensor
    a: torch.Tensor  # (N r, in), or (r, in)
    b: torch.Tensor  # (out, the same), mean over heads included

    @classmethod
    def of(cls, module: Module) -> Spaces:
        """The spaces of one layer."""
        count, out, rank = module.heads.shape
        stacked = module.heads.permute(1, 0, 2).reshape(out, count * rank)
        mean = module.heads.mean(0) if module.shared_a else stacked / count
        return cls(column_space(module.a.T), column_space(stacked), module.a, mean)


def compare_adapters(
    adapters: dict[str, Path],
    starts: dict[str, Path] | None = None,
    *,
    progress: Progress = SILENT,
) -> Comparison:
    """Similarity of every pair of adapters, ``(R, R)`` for each part, mean over layers and per layer.

    Args:
        starts: Folders of the untrained adapters by the same names, where they are known.

    Raises:
        AdapterError: When fewer than two are given, or they share no layer.
        StoppedError: When asked to stop.
    """
    names = list(adapters)
    if len(names) < 2:
        raise AdapterError("Comparing needs at least two adapters. Choose another run beside this one.")
    total = count_modules(adapters[names[0]])
    layers = []
    for module, spaces in _together(list(adapters.values())):
        progress.check("The comparison")
        layers.append(_compare_layer(module, spaces))
        progress.report(len(layers) / total, f"{len(layers):,} of {total:,} layers compared")
    if not layers:
        raise AdapterError(
            "These adapters share no layer of one shape; they belong to different base models or targets. "
            "Compare runs on one base with the same targets."
        )
    before = compare_adapters(starts) if starts and len(starts) == len(names) else None
    parts = {part: _summarise(part, layers, before) for part in PARTS}
    return Comparison(runs=names, layers=layers, parts=parts, sentence=describe(parts))


def _together(folders: list[Path]) -> Iterator[tuple[Module, list[Spaces]]]:
    """Layers of the first adapter with the spaces of all, where all have it in one shape; one layer in memory."""
    for modules in _zip_modules(folders):
        shapes = {(m.a.shape[1], m.heads.shape[1]) for m in modules}
        if len(modules) == len(folders) and len(shapes) == 1:
            yield modules[0], [Spaces.of(module) for module in modules]


def _zip_modules(folders: list[Path]) -> Iterator[list[Module]]:
    """Every layer of the first adapter with the layers of the same name in the others."""
    streams = [read_modules(folder) for folder in folders]
    waiting: list[dict[str, Module]] = [{} for _ in streams]
    for first in streams[0]:
        found = [first]
        for stream, kept in zip(streams[1:], waiting[1:], strict=True):
            while first.name not in kept and (module := next(stream, None)) is not None:
                kept[module.name] = module
            if first.name in kept:
                found.append(kept.pop(first.name))
        yield found


def _compare_layer(module: Module, spaces: list[Spaces]) -> LayerComparison:
    count = len(spaces)
    values = {part: np.eye(count) for part in PARTS}
    chance = {part: np.zeros((count, count)) for part in PARTS}
    for i, one in enumerate(spaces):
        for j, two in enumerate(spaces[:i]):
            found = {
                "A": _overlap(one.reads, two.reads),
                "B": _overlap(one.writes, two.writes),
                "BA": _cosine(one, two),
            }
            for part, (value, level) in found.items():
                values[part][i, j] = values[part][j, i] = value
                chance[part][i, j] = chance[part][j, i] = level
    A, B, BA = (
        PairFigures(value=values[part].round(5).tolist(), chance=chance[part].round(5).tolist()) for part in PARTS
    )
    return LayerComparison(name=module.name, layer=module.layer, kind=module.kind, A=A, B=B, BA=BA)


def _overlap(one: torch.Tensor, two: torch.Tensor) -> tuple[float, float]:
    """Overlap of two spaces by their orthonormal bases ``(width, .)``, and its chance level."""
    ranks = [int((q.norm(dim=0) > 0.5).sum()) for q in (one, two)]
    if not min(ranks):
        return 0.0, 1.0  # untrained heads write nowhere
    return float((one.T @ two).square().sum() / min(ranks)), overlap_level(one.shape[0], *ranks)


def _cosine(one: Spaces, two: Spaces) -> tuple[float, float]:
    """|Cosine| of two updates, and its chance level; the updates ``(out, in)`` themselves are never made."""

    def product(x: Spaces, y: Spaces) -> float:
        return float(((x.b.T @ y.b).double() * (x.a @ y.a.T).double()).sum())

    scale = (product(one, one) * product(two, two)) ** 0.5
    traces = float(one.a.square().sum()) * float(two.a.square().sum())
    size = max(float((one.a @ two.a.T).square().sum()), 1e-30)
    level = float(cosine_level(one.b.shape[0] * traces / size))
    return (abs(product(one, two)) / scale if scale > 0 else 0.0), level


def _summarise(part: str, layers: list[LayerComparison], before: Comparison | None) -> PartSummary:
    values = np.array([layer.part(part).value for layer in layers])  # (layers, R, R)
    chance = np.array([layer.part(part).chance for layer in layers])  # (layers, R, R)
    off = ~np.eye(values.shape[1], dtype=bool)
    return PartSummary(
        mean=values.mean(0).round(5).tolist(),
        similarity=float(values[:, off].mean()),
        chance=float(chance[:, off].mean()),
        above=float((values > chance)[:, off].mean()),
        start=before.parts[part].similarity if before and part == "A" else None,
    )


def describe(parts: dict[str, PartSummary]) -> str:
    """What the adapters share, in one sentence or two."""
    words = {"A": "what A reads", "B": "what the heads write", "BA": "the updates B A"}
    said = []
    for part, found in parts.items():
        verdict = "alike beyond chance" if found.above > 0.5 else "no more alike than chance"
        said.append(f"{words[part]}: {verdict} ({found.similarity:.2f}, chance reaches {found.chance:.2f})")
    text = "; ".join(said) + "."
    text = text[0].upper() + text[1:]
    start = parts["A"].start
    if start is not None and start > 0.99:
        text += (
            " Their A began as the same numbers (one seed), so an alike A is where they started, not what they "
            "found; start each from its own seed to see what training does."
        )
    elif start is not None:
        text += f" At the start their A overlapped by {start:.2f}."
    return text
