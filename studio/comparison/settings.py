"""The settings of runs beside each other: all of one run under one name each, and those that differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydralora.bases.folder import shown_base
from hydralora.config import TrainConfig
from hydralora.methods import METHODS
from hydralora.options import LoraOptions
from jobs.store.run_list import RunLine

SEED, EXPERTS = "train.seed", "adapter.num_experts"
NONE = "–"
# What the settings alone do not say: the rows that were trained on.
ROWS = "training set"
SILENT = ("train.selection", "train.edits", "train.batch_asked")  # the training set tells what they come to
PLAIN = {"method": "Method", "base": "Base", "corpus": "Corpus", ROWS: "Training set", SEED: "Seed"}


def settings_of(line: RunLine) -> dict[str, Any]:
    """Every setting of a run as it is stored, with its corpus and the rows that it learnt."""
    stored = line.stored_config
    found: dict[str, Any] = {"corpus": line.corpus or NONE, "base": shown_base(line.base), "method": line.method}
    if line.summary and line.summary.training_hash:
        found[ROWS] = line.summary.training_hash[:12]
    for part in ("adapter",) if line.is_imported else ("adapter", "train"):
        renamed = METHODS[line.method].options.renamed if part == "adapter" and line.method in METHODS else {}
        values = stored.get(part) or {}
        found |= {f"{part}.{renamed.get(name, name)}": value for name, value in values.items()}
    if line.method in METHODS and issubclass(METHODS[line.method].options, LoraOptions):
        found.setdefault(EXPERTS, 1)
    return {name: value for name, value in found.items() if name not in SILENT}


def differing(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The settings that not all runs have alike, with the value of each run; ``NONE`` where it has none.

    An option that some methods do not have counts only where somebody has changed it.
    """
    names = dict.fromkeys(name for one in settings for name in one)
    columns = {name: [one.get(name, NONE) for one in settings] for name in names}
    varying = {name: column for name, column in columns.items() if not _is_alike(column)}
    return {name: column for name, column in varying.items() if not _is_only_usual(name, column, settings)}


def _is_alike(column: Sequence[Any]) -> bool:
    """Whether all values are the same, as ``repr`` writes them: 1, 1.0 and True are not."""
    first = column[0]
    if isinstance(first, str) or first is None:  # what nearly all are, and these are the same where they are equal
        return list(column).count(first) == len(column)
    if type(first) in (bool, int, float) and all(type(value) is type(first) for value in column):
        return len(set(column)) == 1
    return len({repr(value) for value in column}) == 1


def _is_only_usual(name: str, column: Sequence[Any], settings: Sequence[dict[str, Any]]) -> bool:
    """Whether runs differ in a setting only since some methods lack it, and the others have it as it comes."""
    part, _, field = name.partition(".")
    if part != "adapter" or not any(name not in one for one in settings):
        return False
    usual = {method: _default(method, field) for method in {str(one["method"]) for one in settings}}
    return all(
        name not in one or repr(value) == usual[str(one["method"])] for one, value in zip(settings, column, strict=True)
    )


def _default(method: str, field: str) -> str:
    """The default of a method's option, as ``repr`` writes it; empty where there is none."""
    info = METHODS[method].options.model_fields.get(field) if method in METHODS else None
    return "" if info is None else repr(info.get_default(call_default_factory=True))


def title(name: str) -> str:
    """A setting as people read it: ``Rank r`` for ``adapter.r``."""
    if name in PLAIN:
        return PLAIN[name]
    part, _, field = name.partition(".")
    kinds = [TrainConfig] if part == "train" else [method.options for method in METHODS.values()]
    info = next((kind.model_fields[field] for kind in kinds if field in kind.model_fields), None)
    return (info.title if info and info.title else field.replace("_", " ").capitalize()) or name


def value_words(name: str, value: Any) -> str:
    """A value as people read it."""
    if name == "method":
        return METHODS[value].title if value in METHODS else str(value)
    if value is None:
        return "all linear layers" if name.endswith("target_modules") else NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
