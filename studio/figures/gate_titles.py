"""What gates and muted experts show, as the titles of their figures, computed from the numbers that are drawn.

Where a test of chance stands beside the numbers, only what is beyond it is told; where none does, the numbers are told
with what an equal share would be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hydralora.results import Experts, GroupChange, GroupGates, Routing, TokenClasses
from studio.figures.base import percent, short_layer, shortened
from studio.figures.palette import expert_name

LONGEST = 70  # characters of a title
GROUP = 28  # of the name of a group in one
NEAR_EQUAL = 0.25  # of an equal share, within which shares are told as alike
FEW = 4  # recorded steps, below which movement cannot be told from noise


def by_layer(routing: Routing) -> str:
    """The layer and expert with the largest share, after experts that take everything or nothing."""
    mean = np.array(routing.mean)  # (layers, experts)
    equal = 1 / mean.shape[1]
    if routing.dominant:
        return f"{_names(routing.dominant)} takes more than 90 % of all routing"
    if routing.dead:
        return f"{_names(routing.dead)} {'is' if len(routing.dead) == 1 else 'are'} hardly used in any layer"
    layer, expert = np.unravel_index(int(mean.argmax()), mean.shape)
    top = float(mean.max())
    if top < (1 + NEAR_EQUAL) * equal:
        return f"Every layer uses all experts nearly alike: {percent(top)} at most, equal is {percent(equal)}"
    name = short_layer(routing.layers[layer])
    return f"{name} leans most on {expert_name(int(expert))}: {percent(top)}; an equal share is {percent(equal)}"


def by_group(group: GroupGates, kind: str) -> str:
    """The expert whose share grows most in a group, where the groups differ beyond chance."""
    if len(group.names) < 2:
        return f"There is only one {kind} to look at"
    if not group.real:
        return f"Routing differs between {kind}s no more than by chance"
    mean = np.array(group.mean)  # (groups, experts)
    place, expert, elsewhere = _largest_gain(mean, np.array(group.sizes or [1] * len(mean), dtype=float))
    name, top = shortened(group.names[place], GROUP), percent(mean[place, expert])
    return f"{expert_name(expert)} is used most in {name}: {top}, elsewhere {percent(elsewhere)}"


def token_classes(found: TokenClasses) -> str:
    """The kind of token with the largest gain of an expert, where so many tokens cannot make it by chance."""
    if len(found.names) < 2:
        return f"Only {found.names[0]} were seen" if found.names else "No kind of token was seen"
    mean, counts = np.array(found.mean), np.array(found.counts, dtype=float)  # (kinds, experts), (kinds,)
    # A gate lies in 0 to 1, so that its mean over n tokens has a standard error of at most 1 / (2 sqrt(n)).
    noise = np.sqrt(1 / np.maximum(counts, 1.0) + 1 / np.maximum(counts.sum() - counts, 1.0))  # two, of a difference
    place, expert, elsewhere = _largest_gain(mean, counts, noise)
    if mean[place, expert] - elsewhere <= noise[place]:
        return "No kind of token stands out beyond chance"
    top = percent(mean[place, expert])
    return f"{expert_name(expert)} is used most for {found.names[place]}: {top}, elsewhere {percent(elsewhere)}"


def _largest_gain(mean: np.ndarray, weights: np.ndarray, noise: np.ndarray | float = 0.0) -> tuple[int, int, float]:
    """The cell that lies most above its column's other rows, less the noise of its row, and the mean of those rows.

    Args:
        mean: ``(rows, columns)``.
        weights: Of the rows in the mean of others, ``(rows,)``.
        noise: Of each row, ``(rows,)``.
    """
    others = (weights @ mean - weights[:, None] * mean) / np.maximum(weights.sum() - weights, 1e-9)[:, None]
    gain = mean - others - np.reshape(noise, (-1, 1))
    row, column = np.unravel_index(int(gain.argmax()), mean.shape)
    return int(row), int(column), float(others[row, column])


def moved(layers: Sequence[str], distance: Sequence[float], noise: Sequence[float], steps: Sequence[int]) -> str:
    """The layer whose gates have moved most, where it is more than twice what they move from batch to batch.

    Args:
        layers: Names, ``(layers,)``.
        distance: Between the first and the last recorded step, 0 to 1, ``(layers,)``.
        noise: Median distance between neighbouring recorded steps, ``(layers,)``.
        steps: All that are recorded.
    """
    if len(steps) < FEW:
        return f"Recorded {len(steps)} times only: movement cannot be told from noise"
    beyond = [i for i in range(len(layers)) if distance[i] > 2 * noise[i]]
    if not beyond:
        return "No layer has moved beyond the noise of single batches"
    most = max(beyond, key=lambda i: distance[i])
    name, part = short_layer(layers[most]), percent(distance[most])
    return f"{name} has moved most: {part} of its shares since step {steps[0]:,}"


def distribution(routing: Routing, layer: int) -> str:
    """How many tokens of a layer give most of the routing to one expert."""
    counts = np.array(routing.histogram)[layer]  # (experts, bins)
    limit = 0.75 if routing.experts == 2 else 0.5  # above it at most one expert can lie, and of two one always would
    edges = np.arange(counts.shape[1]) / counts.shape[1]
    part = min(1.0, float(counts[:, edges >= limit - 1e-9].sum()))
    return f"{short_layer(routing.layers[layer])}: {percent(part)} of tokens give one expert more than {percent(limit)}"


def effective(routing: Routing) -> str:
    """The layer that uses the fewest experts, beside the one that uses the most."""
    values, count = routing.effective_experts, routing.experts
    low, high = int(np.argmin(values)), int(np.argmax(values))
    if values[high] - values[low] < 0.1:
        return f"Every layer uses {float(np.mean(values)):.1f} of {count} experts"
    names = [short_layer(routing.layers[i]) for i in (low, high)]
    return f"{names[0]} uses {values[low]:.1f} of {count} experts, the fewest; {names[1]} {values[high]:.1f}"


def agreement(group: GroupGates, kind: str) -> str:
    """Whether the gates follow the groups, with the level of chance."""
    if not group.r2:
        return f"There is only one {kind} to look at"
    mean = float(np.mean(group.r2))
    if group.real:
        return f"Routing follows the {kind}s: R² {mean:.2f}, chance stays below {group.band:.2f}"
    return f"Routing does not follow the {kind}s: R² {mean:.2f}, chance reaches {group.band:.2f}"


def muted_groups(found: Experts, kind: str) -> str:
    """Which expert serves which group: it alone is where muting the expert costs something beyond chance."""
    real = {card.expert: [row for row in card.groups[kind] if row.real] for card in found.cards}
    several = any(len(card.groups[kind]) > 1 for card in found.cards)
    serving = {e: rows[0] for e, rows in real.items() if several and len(rows) == 1 and rows[0].change > 0}
    if serving:
        order = sorted(serving, key=lambda e: -serving[e].change)
        return _listed([f"{expert_name(e)} serves {shortened(serving[e].name, GROUP)}" for e in order])
    rows = [(e, row) for e, those in real.items() for row in those]
    if not rows:
        return f"No expert is missed in any {kind} beyond chance"
    expert, row = max(rows, key=lambda one: one[1].change)
    return _effect(expert, shortened(row.name, GROUP), row)


def _effect(expert: int, where: str, row: GroupChange) -> str:
    if row.change > 0:
        return f"{expert_name(expert)} is missed most in {where}: {row.change:+.2f} loss without it"
    return f"{expert_name(expert)} does harm in {where}: {row.change:+.2f} loss without it"


def _listed(parts: list[str]) -> str:
    """As many parts as fit into a title, and how many there are besides."""
    for count in range(len(parts), 0, -1):
        left = f" and {len(parts) - count} more" if count < len(parts) else ""
        text = ", ".join(parts[:count]) + left
        if len(text) <= LONGEST:
            break
    return text


def muted_layers(found: Experts) -> str:
    """The layer in which one expert is missed most, where any is beyond chance."""
    rows = [(card.expert, row) for card in found.cards for row in card.layers if row.real]
    if not rows:
        return "No expert is missed in a single layer beyond chance"
    expert, row = max(rows, key=lambda one: one[1].change)
    if row.change <= 0:
        return f"{expert_name(expert)} does harm in {short_layer(row.layer)}: {row.change:+.3f} loss without it"
    return f"{expert_name(expert)} is missed most in {short_layer(row.layer)}: {row.change:+.3f} loss without it"


def _names(experts: Sequence[int]) -> str:
    return " and ".join(expert_name(e) for e in experts)
