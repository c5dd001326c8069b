"""The figures of a comparison, from the runs that are compared and what is stored of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydralora.errors import UserError
from jobs.store.run_list import RunLine
from jobs.store.store import Store
from studio.comparison.groups import EACH, Compared
from studio.comparison.settings import NONE, SEED, title, value_words
from studio.comparison.statistics import wilson
from studio.figures.base import Figure
from studio.figures.compared import MOST_RUNS, Axis, Priced, Scored, cost_against_quality, intervals, parallel
from studio.figures.laid_over import Bundle, laid_over
from studio.figures.look import Look
from studio.figures.views import NothingToShow

# What is laid over each other: the number of a step, what it is called, its unit, and terms of `studio.terms`.
CURVES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "held-out": ("eval_loss", "held-out loss", "nats per token", ("loss", "held out")),
    "training": ("loss", "training loss", "nats per token", ("loss",)),
    "speed": ("tokens_per_second", "speed", "tokens/s", ()),
}
MINUTE, MIB = 60.0, 2**20
COSTS: dict[str, tuple[str, Callable[[RunLine], float | None]]] = {
    "minutes": ("minutes", lambda line: _of_summary(line, "seconds", MINUTE)),
    "weights": ("trained weights", lambda line: _weights(line)),
    "memory": ("peak memory (MB)", lambda line: _of_summary(line, "peak_bytes", MIB)),
}
MOST_AXES = 8  # settings beside the scores
UNSCORED = "No answers of these runs are measured yet."


def curves_figure(store: Store, compared: Compared, which: str, look: Look) -> Figure:
    """One number of the steps of all runs, by group.

    Raises:
        UserError: When there is no such curve.
        NothingToShow: When no run has such a number.
    """
    if which not in CURVES:
        raise UserError(f"There is no curve called '{which}' here. Choose one of: {', '.join(CURVES)}.")
    number, quantity, unit, terms = CURVES[which]
    lines = store.curves.of([line.id for line in compared.lines], number)
    bundles = [
        Bundle(group.name, group.index, [(line.name, lines[line.id]) for line in group.lines if line.id in lines])
        for group in compared.groups
    ]
    drawn = [bundle for bundle in bundles if bundle.lines]
    if not drawn:
        raise NothingToShow(f"No {quantity} of these runs is recorded yet.")
    return laid_over(drawn, quantity, unit, look, terms)


def intervals_figure(compared: Compared) -> Figure:
    """Exact match of every run with its interval, by group; of many runs the mean of each group.

    Raises:
        NothingToShow: When no answers are measured.
    """
    scored = [(line, group) for group in compared.groups for line in group.lines if line.score is not None]
    if not scored:
        raise NothingToShow(UNSCORED)
    questions = max(line.score.questions for line, _ in scored if line.score)
    if len(scored) > MOST_RUNS and compared.by != EACH and len(compared.groups) < len(scored):
        found = []
        for group in compared.groups:
            right, asked = (sum(getattr(one, name) for one in group.scores) for name in ("exact", "questions"))
            if group.scores:  # runs share their questions: more runs are no more questions
                low, high = wilson(round(right / len(group.scores)), round(asked / len(group.scores)))
                found.append(Scored(group.name, group.index, right / asked, low, high))
        return intervals(sorted(found, key=lambda one: -one.share), questions, "group")
    found = [Scored(line.name, group.index, *_interval(line)) for line, group in scored]
    if len(found) > MOST_RUNS:
        found.sort(key=lambda one: -one.share)
    return intervals(found, questions, "run")


def cost_figure(compared: Compared, cost: str) -> Figure:
    """Exact match of every run over what it cost.

    Raises:
        UserError: When there is no such cost.
        NothingToShow: When no run has both.
    """
    if cost not in COSTS:
        raise UserError(f"There is no cost called '{cost}' here. Choose one of: {', '.join(COSTS)}.")
    words, value_of = COSTS[cost]
    found = [
        Priced(line.name, group.index, value, *_interval(line))
        for group in compared.groups
        for line in group.lines
        if line.score is not None and (value := value_of(line)) is not None
    ]
    if not found:
        raise NothingToShow(UNSCORED)
    return cost_against_quality(found, words)


def parallel_figure(compared: Compared) -> Figure:
    """Settings that differ and scores of every run, as parallel coordinates.

    Raises:
        NothingToShow: When there is only one run.
    """
    if len(compared.lines) < 2:
        raise NothingToShow("Choose two runs or more.")
    names = [name for name in compared.differing if name != SEED][:MOST_AXES]
    axes = [Axis(title(name), [_coordinate(name, value) for value in compared.differing[name]]) for name in names]
    lines = compared.lines
    scores = {
        "minutes": [_of_summary(line, "seconds", MINUTE) for line in lines],
        "held-out loss": [line.summary.held_out_loss if line.summary else None for line in lines],
        "exact match, %": [round(100 * line.score.exact_match, 1) if line.score else None for line in lines],
    }
    axes += [Axis(name, values) for name, values in scores.items() if any(value is not None for value in values)]
    if not axes:
        raise NothingToShow("These runs have the same settings, and nothing is measured yet.")
    indices = {line.id: group.index for group in compared.groups for line in group.lines}
    return parallel([line.name for line in lines], [indices[line.id] for line in lines], axes)


def _coordinate(name: str, value: Any) -> Any:
    """A number as it is, None for a setting that a run does not have, anything else in words."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None if value == NONE else value_words(name, value)


def _interval(line: RunLine) -> tuple[float, float, float]:
    assert line.score is not None
    return line.score.exact_match, *wilson(line.score.exact, line.score.questions)


def _of_summary(line: RunLine, name: str, unit: float) -> float | None:
    value = getattr(line.summary, name) if line.summary else None
    return None if value is None else round(value / unit, 3)


def _weights(line: RunLine) -> float | None:
    summary = line.summary
    return float(summary.trainable + summary.router) if summary and summary.trainable else None
