"""What matrices show, as the titles of their figures, computed from the numbers that are drawn.

Likeness is told beside what random matrices reach; where it is no more than that, the title says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hydralora.results import Comparison, DriftRow, HeadFigures, MatrixMap, PairFigures
from studio.figures.base import percent, short_layer
from studio.figures.palette import expert_name

COPIES = 0.9  # a cosine, overlap or CKA above which heads are called near-copies
SMALL = 0.5  # of the others' norm, below which a head has learnt little
SEED = 0.99  # overlap of untrained matrices that were the same numbers
VERBS = {"A": "read", "B": "write", "BA": "change"}


def heads(layer: HeadFigures, what: str, label: str) -> str:
    """How alike the heads of one layer are, and which two most, beside what random ones reach.

    Args:
        what: One of the four measures.
        label: What it is called in a word.
    """
    name, pairs = short_layer(layer.name), layer.pairs(what)
    if not pairs:
        return f"{name} has one head, so there is nothing to compare"
    if not layer.trained:
        return f"{name}: a head is still zero, so nothing can be compared"
    sizes = [size for size, _ in pairs]
    if min(sizes) >= COPIES:
        return f"Heads of {name} are near-copies ({label} {min(sizes):.2f} or more)"
    beyond = [place for place, (size, chance) in enumerate(pairs) if size > chance]
    if not beyond:
        return f"Heads of {name} are no more alike than random ({label} {max(sizes):.2f} at most)"
    most = max(beyond, key=lambda place: sizes[place])
    one, other = [(i, j) for i in range(len(layer.measure(what))) for j in range(i)][most]
    names = f"{expert_name(other)} and {expert_name(one)}"
    return f"{names} of {name} are most alike ({label} {sizes[most]:.2f}, chance {pairs[most][1]:.2f})"


def by_layer(layers: Sequence[HeadFigures], what: str, label: str) -> str:
    """In how many layers the heads are alike beyond chance on average, and in which most."""
    rows = [(layer, layer.pairs(what)) for layer in layers if layer.pairs(what)]
    if not rows:
        return "Every layer has one head, so there is nothing to compare"
    means = [(layer, *np.mean(pairs, axis=0)) for layer, pairs in rows]
    beyond = [layer for layer, size, chance in means if size > chance]
    layer, top, _ = max(means, key=lambda one: one[1])
    if not beyond:
        return f"No layer's heads are more alike than random ones ({label} {top:.2f} at most)"
    where = "every layer" if len(beyond) == len(means) else f"{len(beyond)} of {len(means)} layers"
    return f"Heads are alike beyond chance in {where}, most in {short_layer(layer.name)} ({top:.2f})"


def norms(layers: Sequence[HeadFigures]) -> str:
    """Whether a head has learnt less than the others, by the mean norm of its updates."""
    sizes = np.array([layer.update_norm for layer in layers]).mean(0)  # (heads,)
    if sizes.max() == 0:
        return "All updates are still zero"
    if len(sizes) == 1:
        return f"The updates have a mean norm of {sizes[0]:.3g}"
    least = int(sizes.argmin())
    others = float(np.delete(sizes, least).mean())
    if sizes[least] < SMALL * others:
        part = percent(sizes[least] / others)
        return f"{expert_name(least)} has learnt least: its updates have {part} of the others' size"
    return f"All heads have learnt: mean norms lie between {sizes.min():.2g} and {sizes.max():.2g}"


def drift(rows: Sequence[DriftRow]) -> str:
    """How far A and the router have moved from their start, or how alike heads have become."""
    last = rows[-1]
    moved = {"A": last.a_moved, "the router": last.router_moved}
    parts = [f"{name} by {percent(value)}" for name, value in moved.items() if value is not None]
    if len(rows) > 1 and parts:
        return f"By step {last.step:,} training moved {' and '.join(parts)} of its size"
    similar = [row for row in rows if row.trained and row.similarity is not None and row.chance is not None]
    if not similar:
        return "Only one state is stored, so no movement can be told"
    found = similar[-1]
    return f"At step {found.step:,} heads are alike by {found.similarity:.2f}; chance reaches {found.chance:.2f}"


def matrix_map(found: MatrixMap) -> str:
    """What the matrices group by, beyond chance."""
    what = {"A": "Matrices A", "B": "Heads B"}[found.which]
    real = [finding.by for finding in found.findings if finding.real]
    if real:
        return f"{what} lie together by {' and by '.join(real)}, beyond chance"
    return f"{what} lie together by nothing beyond chance"


def of_kind(found: MatrixMap, similarity: np.ndarray, names: Sequence[str], kind: str) -> str:
    """How alike the matrices of one kind of layer are on average, and the two that are most.

    Args:
        similarity: ``(matrices, matrices)``.
        names: Of the matrices, ``(matrices,)``.
    """
    off = ~np.eye(len(names), dtype=bool)
    if not off.any():
        return f"There is one matrix of {kind.removesuffix('_proj')}"
    shown = np.where(off, similarity, -np.inf)
    one, other = sorted(divmod(int(shown.argmax()), len(names)))
    mean, label = float(similarity[off].mean()), kind.removesuffix("_proj")
    most = f"{shown.max():.2f} at most ({names[one]}, {names[other]})"
    text = f"{found.which} of {label}: alike by {mean:.2f} on average, {most}"
    return text if len(text) <= 70 else text.partition(" (")[0]


def runs(found: Comparison, part: str) -> str:
    """Whether the runs do alike in one part beyond chance, and whether they began so.

    Args:
        part: ``A``, ``B`` or ``BA``.
    """
    shown = found.parts[part]
    if shown.start is not None and shown.start > SEED and shown.similarity > shown.chance:
        return f"What the runs read began as the same numbers (one seed): {shown.similarity:.2f} now"
    beside = f"{shown.similarity:.2f}; chance {shown.chance:.2f}"
    if shown.above > 0.5:
        return f"What the runs {VERBS[part]} is alike beyond chance ({beside})"
    return f"What the runs {VERBS[part]} is no more alike than chance ({beside})"


def runs_by_layer(found: Comparison) -> str:
    """In how many layers the runs are alike beyond chance, in what they read, write and change."""
    total = len(found.layers)
    counts = [sum(_is_beyond(layer.part(part)) for layer in found.layers) for part in VERBS]
    if not any(counts):
        return "The runs are alike beyond chance in no layer"
    parts = ", ".join(f"{verb} in {count}" for verb, count in zip(VERBS.values(), counts, strict=True))
    return f"Alike beyond chance, of {total} {'layer' if total == 1 else 'layers'}: {parts}"


def _is_beyond(found: PairFigures) -> bool:
    """Whether the mean over pairs of different runs is above that of their chance levels."""
    off = ~np.eye(len(found.value), dtype=bool)
    return float(np.array(found.value)[off].mean()) > float(np.array(found.chance)[off].mean())
