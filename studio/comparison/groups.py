"""Runs in groups: all with the same settings but for the seed, or with one setting in common, or each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.store.run_list import RunLine
from jobs.store.scores import Score
from studio.comparison.settings import EXPERTS, NONE, ROWS, SEED, differing, settings_of, title, value_words

SETTINGS, EACH = "settings", "run"
ALWAYS = ("method", "base", "corpus")  # can be grouped by even where all are alike
# What names a group first, and in short.
FIRST = ("method", "adapter.r", "adapter.num_experts", "base", "corpus", "train.max_steps")
SHORT = {"adapter.r": "r {}", "adapter.num_experts": "{} experts", "train.max_steps": "{} steps", SEED: "seed {}"}
BARE = ("method", "base", "corpus")  # named by their value alone
LONGEST_NAME = 60  # characters


@dataclass(frozen=True)
class Group:
    """Some of the compared runs; ``index`` (from 0) decides colour, dash and shape."""

    index: int
    name: str
    lines: tuple[RunLine, ...]

    @property
    def scores(self) -> list[Score]:
        """Of the runs whose answers are measured."""
        return [line.score for line in self.lines if line.score is not None]

    @property
    def runs_words(self) -> str:
        """``3 seeds``, ``2 runs``, or which one it is."""
        if len(self.lines) == 1:
            return f"run {self.lines[0].id}"
        seeds = {line.setting("train", "seed") for line in self.lines}
        word = "seed" if len(seeds) == len(self.lines) else "run"
        return f"{len(self.lines)} {word}s"

    def numbers(self, name: str) -> np.ndarray:
        """A number of the summaries, of the runs that have it."""
        found = [getattr(line.summary, name) for line in self.lines if line.summary is not None]
        return np.array([value for value in found if value is not None], dtype=float)


@dataclass(frozen=True)
class Compared:
    """What is compared: the runs in their order, their settings and their groups.

    Args:
        by: ``SETTINGS``, ``EACH``, or the name of a setting.
        missing: Ids that were asked for and do not exist.
    """

    lines: list[RunLine]
    by: str
    groups: list[Group]
    settings: list[dict[str, Any]]
    missing: tuple[int, ...] = ()

    @cached_property
    def differing(self) -> dict[str, list[Any]]:
        """The settings that differ, with the value of each run."""
        return differing(self.settings)

    @property
    def same_count(self) -> int:
        """How many settings all runs have alike."""
        return len({name for one in self.settings for name in one}) - len(self.differing)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What the runs can be grouped by, with its words."""
        names = dict.fromkeys([*ALWAYS, *(name for name in self.differing if name != ROWS)])
        named = [(title(name), name) for name in names]
        return [("settings but the seed", SETTINGS), *((words, name) for words, name in named), ("each run", EACH)]

    def group_of(self, run_id: int) -> Group:
        """The group that a run is in."""
        return next(group for group in self.groups if any(line.id == run_id for line in group.lines))


def compare(lines: Sequence[RunLine], by: str = SETTINGS, missing: Sequence[int] = ()) -> Compared:
    """Runs in groups, in the order in which they are given.

    Raises:
        UserError: When they cannot be grouped by that.
    """
    settings = [settings_of(line) for line in lines]
    varying = [name for name in differing(settings) if name != ROWS]
    by = by or SETTINGS
    if by not in (SETTINGS, EACH, *ALWAYS) and not any(by in one for one in settings):
        raise UserError(f"Runs are not grouped by {shown(by)}: none of them has such a setting.")
    keys = [_key(line, one, by, varying) for line, one in zip(lines, settings, strict=True)]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    members: list[list[RunLine]] = [[] for _ in places]
    firsts: list[dict[str, Any]] = [{} for _ in places]
    for line, one, key in zip(lines, settings, keys, strict=True):
        members[places[key]].append(line)
        firsts[places[key]] = firsts[places[key]] or one
    names = [group[0].name for group in members] if by == EACH else _names(firsts, by, varying)
    groups = [Group(i, name, tuple(group)) for i, (name, group) in enumerate(zip(names, members, strict=True))]
    return Compared(list(lines), by, groups, settings, tuple(missing))


def _key(line: RunLine, settings: dict[str, Any], by: str, varying: Sequence[str]) -> str:
    if by == EACH:
        return str(line.id)
    wanted = [name for name in varying if name != SEED] if by == SETTINGS else [by]
    return repr([settings.get(name, NONE) for name in wanted])


def _names(groups: Sequence[dict[str, Any]], by: str, varying: Sequence[str]) -> list[str]:
    """A name for each group, of as few settings as tell them apart."""
    if by != SETTINGS:
        return [_words(by, one) or NONE for one in groups]
    used: list[str] = ["method"]
    order = [name for name in (*FIRST, *varying) if name in varying and name != SEED]
    for name in dict.fromkeys(order):
        if len(set(_joined(groups, used))) == len(groups):
            break
        if name not in used and len(set(_joined(groups, [*used, name]))) > len(set(_joined(groups, used))):
            used.append(name)
    return _joined(groups, used)


def _joined(groups: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    return [" ".join(filter(None, (_words(name, one) for name in names))) for one in groups]


def _words(name: str, settings: dict[str, Any]) -> str:
    """A value as a part of a name; empty where a group has no such setting."""
    if name not in settings:
        return ""
    value = value_words(name, settings[name])[:LONGEST_NAME]
    if name == EXPERTS and value == "1":  # nobody calls a plain LoRA one of one expert
        return ""
    return value if name in BARE else SHORT.get(name, f"{title(name).lower()} {{}}").format(value)


def common_questions(groups: Sequence[Group]) -> np.ndarray | None:
    """Positions that every scored run of some groups was asked, ``(questions,)``; None where they share none."""
    lines = [line for group in groups for line in group.lines if line.score is not None]
    if len({line.corpus_id for line in lines}) != 1:
        return None
    distinct = {line.score.positions: line.score for line in lines if line.score is not None}
    shared: np.ndarray = reduce(np.intersect1d, [score.asked for score in distinct.values()])
    return shared if len(shared) else None


def hits_on(group: Group, questions: np.ndarray) -> np.ndarray:
    """Whether each scored run of a group answered each of some questions right, ``(runs, questions)``."""
    return np.stack([score.right[np.searchsorted(score.asked, questions)] for score in group.scores])
