"""What the curves of a training show, as the titles of their figures, computed from the values as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hydralora.results.runs import LOWER
from studio.figures.base import percent
from studio.figures.palette import expert_name

SAME = 0.01  # of a loss: less is no change
LATE = 10  # recorded steps at the end, from which the noise of single batches is read

Known = Mapping[str, list[tuple[int, float]]]  # steps and values of each line, by its words


def loss(known: Known) -> str:
    """Where the held-out loss went, and whether it still falls; the training loss where no other was measured."""
    held = known.get("held-out loss", [])
    if not held:
        (_, first), (at, last) = known["training loss"][0], known["training loss"][-1]
        return f"Training loss {said(first)} at first, {said(last)} at step {at:,}; batches vary"
    (_, first), (at, last) = held[0], held[-1]
    lowest, low = min(held, key=lambda one: one[1])
    if len(held) == 1:
        return f"Held-out loss is {said(last)} at step {at:,}"
    if low < LOWER * last and lowest != held[0][0]:
        return f"Held-out loss rises again: {said(low)} at step {lowest:,}, {said(last)} at the end"
    if last > first * (1 + SAME):
        return f"Held-out loss rises from {said(first)} to {said(last)}"
    if last >= first * (1 - SAME):
        return f"Held-out loss stays near {said(last)}"
    end = "still falling" if last < held[-2][1] * (1 - SAME) else "level at the end"
    return f"Held-out loss falls from {said(first)} to {said(last)}, {end}"


def answers(known: Known) -> str:
    """The share that is right at the end and at first; how many were asked is not known here, so no more is said."""
    points = known["right"]
    (start, first), (at, last) = points[0], points[-1]
    before = f", {percent(first)} at step {start:,}" if len(points) > 1 else ""
    return f"{percent(last)} right at step {at:,}{before}"


def margin(known: Known) -> str:
    """Where the margin of the held-out pairs went; that of trained pairs where no other was measured."""
    which = next(words for words in ("held-out pairs", "trained pairs") if known.get(words))
    points = known[which]
    at, last = points[-1]
    best, high = max(points, key=lambda one: one[1])
    if len(points) > 1 and high - last > SAME * max(abs(high), 1.0):
        return f"Margin of {which} was {said(high)} at step {best:,}, now {said(last)}"
    return f"Margin of {which} is {said(last)} at step {at:,}"


def speed(known: Known) -> str:
    """The speed of an ordinary step."""
    values = [value for _, value in known["tokens per second"]]
    return f"About {float(np.median(values)):,.0f} tokens per second (median of the steps)"


def rate(known: Known) -> str:
    """The highest learning rate and the last one."""
    points = known["learning rate"]
    peak, high = max(points, key=lambda one: one[1])
    last = points[-1][1]
    if all(value == high for _, value in points):
        return f"The learning rate stays at {high:.3g}"
    return f"Highest at step {peak:,} ({high:.3g}), {last:.3g} now"


def shares(means: np.ndarray, steps: Sequence[int]) -> str:
    """Which experts lead at the last recorded step, as far as single batches can tell.

    Args:
        means: Mean routing weights, ``(steps, experts)``.
        steps: ``(steps,)``.
    """
    last, equal = means[-1], 1 / means.shape[1]
    late = means[-LATE:]
    moves = np.abs(np.diff(late, axis=0))  # (steps - 1, experts)
    noise = max(float(moves.mean()) if moves.size else 0.0, 0.01)
    at = f"step {steps[-1]:,}"
    if float(np.abs(last - equal).max()) <= max(2 * noise, 0.1 * equal):
        return f"At {at} all experts are near an equal share ({percent(equal)})"
    leaders = [expert_name(e) for e in range(len(last)) if last[e] >= last.max() - 2 * noise]
    if len(leaders) > 2:
        return f"Shares at {at}: {percent(last.min())} to {percent(last.max())}; equal is {percent(equal)}"
    verb = "leads" if len(leaders) == 1 else "lead"
    return f"{' and '.join(leaders)} {verb} with {percent(last.max())} at {at}; an equal share is {percent(equal)}"


def ends(known: Known) -> str:
    """The first and the last value of the first line that has some."""
    words, points = next((words, points) for words, points in known.items() if points)
    (start, first), (at, last) = points[0], points[-1]
    before = f"{said(first)} at step {start:,}, " if len(points) > 1 else ""
    return f"{words.capitalize()}: {before}{said(last)} at step {at:,}"


def said(value: float) -> str:
    """A number with two decimals, or two digits where it is small."""
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
