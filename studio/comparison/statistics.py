"""Whether two groups of runs differ, or whether what was measured cannot tell.

Exact match is compared on the same questions: for two runs by the exact sign test of those that only one has right
(as ``studio.verdict`` does), for groups by lots of signs on the differences of their means, question by question. Where
both groups have several runs, Welch's t of the runs (1947, https://doi.org/10.1093/biomet/34.1-2.28) must tell them
apart as well: other seeds would be other runs. What is not told apart is open; it is equal only where the whole 95 %
interval lies within ``MARGIN``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from studio.verdict import TELLING, sign_test

MARGIN = 0.02  # of exact match: what is so near is equal
FLIPS = 4_000  # lots of signs
NORMAL = 1.96  # 97.5 % point
POWER = 0.84  # 80 % point
RARE = 3.0  # what was never seen among n may still happen 3 / n of the time (the rule of three)
# 97.5 % points of Student's t for 1 to 30 degrees of freedom
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
Told = Literal["more", "less", "equal", "open"]


@dataclass(frozen=True)
class Difference:
    """The second group less the first.

    Args:
        low: Lower end of the 95 % interval, the wider one where questions and runs give two; None without one.
        high: Its upper end.
        told: What may be said of it.
        by: What the interval is over: ``questions``, ``runs``, or nothing.
        p: p-value over questions, 1 where there are none.
        needed: Questions that would tell a difference of this size four times in five; None where that says nothing.
    """

    value: float
    low: float | None
    high: float | None
    told: Told
    by: str
    p: float = 1.0
    needed: int | None = None


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953), 0 to 1."""
    if asked == 0:
        return 0.0, 1.0
    share, z2 = right / asked, NORMAL**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = NORMAL * sqrt(share * (1 - share) / asked + z2 / (4 * asked**2)) / (1 + z2 / asked)
    return max(0.0, middle - half), min(1.0, middle + half)


def student(freedom: float) -> float:
    """97.5 % point of Student's t."""
    whole = max(1, int(freedom))
    return STUDENT[whole - 1] if whole <= len(STUDENT) else NORMAL + 2.5 / whole


def welch(first: np.ndarray, second: np.ndarray) -> float | None:
    """Half of the 95 % interval of the difference of two means; None where a group has one value."""
    if len(first) < 2 or len(second) < 2:
        return None
    return welch_of(float(first.var(ddof=1)), len(first), float(second.var(ddof=1)), len(second))


def welch_of(first: float, first_count: int, second: float, second_count: int) -> float:
    """The same from two variances and how many values each is of, two at least."""
    sizes = first_count - 1, second_count - 1
    parts = first / first_count, second / second_count
    total = sum(parts)
    if total == 0.0:
        return 0.0
    freedom = total**2 / sum(part**2 / size for part, size in zip(parts, sizes, strict=True))
    return student(freedom) * sqrt(total)


def compare_hits(first: np.ndarray, second: np.ndarray, *, comparisons: int = 1) -> Difference:
    """How the shares of right answers of two groups differ.

    Args:
        first: Whether each run of the first group answered each question right, ``(runs, questions)``.
        second: The same of the second group and the same questions.
        comparisons: How many such comparisons are made together; each must be that much surer (Bonferroni).
    """
    apart = second.mean(0) - first.mean(0)  # by question
    value, count = float(apart.mean()), len(apart)
    spread = float(apart.std(ddof=1)) if count > 1 else 1.0
    half = max(NORMAL * spread / sqrt(count), RARE / count)
    runs = welch(first.mean(1), second.mean(1))
    p = _chance(first, second, apart)
    by, wide = ("runs", runs) if runs is not None and runs > half else ("questions", half)
    is_told = p < TELLING / comparisons and (runs is None or abs(value) > runs)
    low, high = value - wide, value + wide
    told: Told = "open"
    if is_told:
        told = "more" if value > 0 else "less"
        # The exact test tells what the interval, an approximation, may not quite: it ends at zero then.
        low, high = (max(low, 0.0), high) if value > 0 else (low, min(high, 0.0))
    elif -MARGIN <= low and high <= MARGIN and p >= TELLING:
        told = "equal"
    size = max(abs(value), 0.01)
    is_few = told == "open" and by == "questions"  # where runs vary more, no number of questions would tell
    needed = round(((NORMAL + POWER) * spread / size) ** 2) if is_few else None
    return Difference(value, low, high, told, by, p, needed)


def _chance(first: np.ndarray, second: np.ndarray, apart: np.ndarray) -> float:
    """How often lots would part the groups as far as they are, two-sided."""
    if len(first) == len(second) == 1:
        return sign_test(first[0].tolist(), second[0].tolist())
    moved = apart[apart != 0]
    if not len(moved):
        return 1.0
    total = moved.sum()
    flipped = np.random.default_rng(0).integers(0, 2, (FLIPS, len(moved)), dtype=np.int8)
    sums = np.abs(total - 2 * (flipped @ moved))
    return float((1 + (sums >= abs(total) - 1e-9).sum()) / (1 + FLIPS))


def compare_values(first: np.ndarray, second: np.ndarray) -> Difference:
    """How the means of a number differ, over the runs of two groups; open where one of them has a single run."""
    value = float(second.mean() - first.mean())
    half = welch(first, second)
    if half is None:
        return Difference(value, None, None, "open", "")
    told: Told = "open" if abs(value) <= half else "more" if value > 0 else "less"
    return Difference(value, value - half, value + half, told, "runs")
