"""Every table of a comparison as plain rows, for files and for the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs.store.run_list import RunLine
from jobs.store.store import Store
from studio.comparison.answers import pairs_of
from studio.comparison.clusters import cluster_rows
from studio.comparison.groups import Compared
from studio.comparison.scores import Row, Spread, labels_of, score_rows
from studio.comparison.settings import NONE, title, value_words

Table = tuple[list[str], list[list[Any]]]
SPEED_POINTS = 12  # steps of a run whose tokens per second are averaged


def speeds_of(store: Store, compared: Compared) -> dict[int, Any]:
    """Tokens per second of some evenly spread steps of every run."""
    return store.curves.of([line.id for line in compared.lines], "tokens_per_second", SPEED_POINTS)


def scores_table(store: Store, compared: Compared, _: tuple[int, int]) -> Table:
    """A row for each group, with means and standard deviations over its runs."""
    labels = labels_of(compared)
    measured = ["exact match", *labels, "held-out loss", "seconds", "tokens/s", "peak bytes", "trainable", "router"]
    head = ["group", "runs", *(f"{name}{more}" for name in measured for more in ("", ", sd"))]
    rows = [_flat(row, labels) for row in score_rows(compared, speeds_of(store, compared))]
    return head, rows


def _flat(row: Row, labels: list[str]) -> list[Any]:
    spreads = [row.exact, *(row.by_label.get(name) for name in labels), row.loss, row.seconds, row.speed, row.peak]
    spreads += [row.trainable, row.router]
    return [row.group.name, len(row.group.lines), *(value for spread in spreads for value in _pair(spread))]


def _pair(spread: Spread | None) -> tuple[float | None, float | None]:
    if spread is None:
        return None, None
    return round(spread.mean, 6), None if spread.sd is None else round(spread.sd, 6)


def runs_table(store: Store, compared: Compared, _: tuple[int, int]) -> Table:
    """A row for each run, with its group, its scores and the settings that differ."""
    names = list(compared.differing)
    head = ["run", "name", "group", "exact match", "right", "questions", "held-out loss", "seconds", *map(title, names)]
    rows = []
    for place, line in enumerate(compared.lines):
        values = [value_words(name, compared.differing[name][place]) for name in names]
        rows.append([line.id, line.name, compared.group_of(line.id).name, *_scores(line), *values])
    return head, rows


def _scores(line: RunLine) -> list[Any]:
    score, summary = line.score, line.summary
    right = [round(score.exact_match, 4), score.exact, score.questions] if score else [None, None, None]
    return [*right, summary.held_out_loss if summary else None, summary.seconds if summary else None]


def settings_table(store: Store, compared: Compared, _: tuple[int, int]) -> Table:
    """The settings that differ, a column for each group; several values of a group stand beside each other."""
    head = ["setting", *(group.name for group in compared.groups)]
    return head, [[title(name), *values] for name, values in settings_by_group(compared)]


def settings_by_group(compared: Compared) -> list[tuple[str, list[str]]]:
    """Each setting that differs, with the values of each group in words."""
    places = {line.id: place for place, line in enumerate(compared.lines)}
    found = []
    for name, column in compared.differing.items():
        values = []
        for group in compared.groups:
            words = [value_words(name, column[places[line.id]]) for line in group.lines]
            values.append(", ".join(dict.fromkeys(words)) or NONE)
        found.append((name, values))
    return found


def answers_table(store: Store, compared: Compared, pair: tuple[int, int]) -> Table:
    """The answers of two runs to the same questions."""
    head = ["example", "label", "question", "wanted", "answer of A", "answer of B", "A right", "B right"]
    return head, [
        [one.position, one.label, one.prompt, one.wanted, one.first, one.second, one.first_right, one.second_right]
        for one in pairs_of(store, *pair)
    ]


def clusters_table(store: Store, compared: Compared, _: tuple[int, int]) -> Table:
    """Exact match of every group in every cluster."""
    names, rows, _why = cluster_rows(store, compared)
    two = len(names) == 2
    head = ["cluster", "questions", *names, *(["difference", "low", "high", "told"] if two else [])]
    found: list[list[Any]] = []
    for row in rows:
        more = [row.apart.value, row.apart.low, row.apart.high, row.apart.told] if row.apart else []
        found.append([row.name, row.questions, *row.shares, *more])
    return head, found


TABLES: dict[str, Callable[[Store, Compared, tuple[int, int]], Table]] = {
    "scores": scores_table,
    "runs": runs_table,
    "settings": settings_table,
    "answers": answers_table,
    "clusters": clusters_table,
}
