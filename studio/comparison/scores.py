"""The scores of groups of runs: mean and spread of everything that was measured, and what differs beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jobs.store.curves import Line
from studio.comparison.groups import Compared, Group, common_questions, hits_on
from studio.comparison.statistics import Difference, compare_hits, compare_values, welch_of

MOST_LABELS = 8  # columns


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a number over the runs of a group; ``sd`` is None for a single run."""

    mean: float
    sd: float | None
    runs: int

    @classmethod
    def of(cls, values: np.ndarray) -> Spread | None:
        """That of some values; None of none."""
        if not len(values):
            return None
        return cls(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


def apart(first: Spread | None, second: Spread | None) -> tuple[float, bool] | None:
    """The second mean less the first, and whether that is beyond chance over the runs; None where one is missing."""
    if first is None or second is None:
        return None
    value = second.mean - first.mean
    if first.sd is None or second.sd is None:
        return value, False
    return value, abs(value) > welch_of(first.sd**2, first.runs, second.sd**2, second.runs)


@dataclass(frozen=True)
class Row:
    """The scores of one group. Times are seconds, memory bytes, losses nats per answer token, shares 0 to 1."""

    group: Group
    exact: Spread | None
    by_label: Mapping[str, Spread]
    loss: Spread | None
    seconds: Spread | None
    speed: Spread | None
    peak: Spread | None
    trainable: Spread | None
    router: Spread | None

    @property
    def weights(self) -> float | None:
        """Trained weights with those of the router, mean over runs."""
        return self.trainable.mean + (self.router.mean if self.router else 0.0) if self.trainable else None


def labels_of(compared: Compared) -> list[str]:
    """The labels of the questions, the most frequent first, ``MOST_LABELS`` of them."""
    counts: dict[str, int] = {}
    for line in compared.lines:
        for name, (_, asked) in (line.score.by_label if line.score else {}).items():
            counts[name] = max(counts.get(name, 0), asked)
    return sorted(counts, key=lambda name: (-counts[name], name))[:MOST_LABELS]


def score_rows(compared: Compared, speeds: Mapping[int, Line]) -> list[Row]:
    """A row for each group; ``speeds`` are tokens per second of some steps, by run."""
    labels = labels_of(compared)
    return [_row(group, labels, speeds) for group in compared.groups]


def _row(group: Group, labels: list[str], speeds: Mapping[int, Line]) -> Row:
    exact = np.array([score.exact_match for score in group.scores])
    trainable = group.numbers("trainable")
    by_label = {}
    for name in labels:
        counts = [score.by_label[name] for score in group.scores if name in score.by_label]
        spread = Spread.of(np.array([right / max(1, asked) for right, asked in counts]))
        if spread is not None:
            by_label[name] = spread
    return Row(
        group,
        Spread.of(exact),
        by_label,
        Spread.of(group.numbers("held_out_loss")),
        Spread.of(group.numbers("seconds")),
        Spread.of(np.array([speeds[line.id][1].mean() for line in group.lines if line.id in speeds])),
        Spread.of(group.numbers("peak_bytes")),
        Spread.of(trainable[trainable > 0]),
        Spread.of(group.numbers("router")),
    )


def exact_difference(first: Group, second: Group, *, comparisons: int = 1) -> tuple[Difference, int] | None:
    """How two groups differ in exact match, and on how many common questions; None where they share none."""
    if not first.scores or not second.scores:
        return None
    questions = common_questions([first, second])
    if questions is None:
        return None
    hits = hits_on(first, questions), hits_on(second, questions)
    return compare_hits(*hits, comparisons=comparisons), len(questions)


def loss_difference(first: Group, second: Group) -> Difference | None:
    """How two groups differ in held-out loss; None where it was not measured."""
    losses = first.numbers("held_out_loss"), second.numbers("held_out_loss")
    return compare_values(*losses) if all(map(len, losses)) else None


def best_first(rows: list[Row]) -> list[Row]:
    """Groups with answers, the best first; where none has any, by held-out loss."""
    scored = [row for row in rows if row.exact is not None]
    if scored:
        return sorted(scored, key=lambda row: -row.exact.mean if row.exact else 0.0)
    return sorted((row for row in rows if row.loss), key=lambda row: row.loss.mean if row.loss else 0.0)
