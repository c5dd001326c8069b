"""What a run gives to its trainer: rows with the columns that the method reads, and what makes batches of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hydralora.corpus.batches import Collator, Encoded, PackingCollator
from hydralora.corpus.encode import encode_example
from hydralora.options import HubOptions, PoisonOptions
from hydralora.training.lope import NOISED, noise_text
from hydralora.training.mixin import TASK, TrainsMethod
from hydralora.training.trainer import AdapterTrainer, Plan


def training_rows(plan: Plan, columns: Iterable[str]) -> list[Any]:
    """The rows that are trained on, with these columns."""
    rows: list[Any] = plan.rows
    if TASK in columns and plan.tasks is not None:
        rows = _with_tasks(rows, plan.groups or [])
    if NOISED in columns:
        rows = [{**row, NOISED: 0} for row in rows] + [{**row, NOISED: 1} for row in _twins(plan)]
    return rows


def held_out_rows(plan: Plan, columns: Iterable[str]) -> list[Any]:
    """The rows whose loss is measured, never trained on, with these columns."""
    has_tasks = TASK in columns and plan.tasks is not None
    return _with_tasks(plan.held_out, plan.held_out_groups) if has_tasks else plan.held_out


def collator_of(plan: Plan) -> Any:
    """What makes a batch of rows."""
    train, pad_id = plan.config.train, plan.tokenizer.pad_token_id
    if train.objective == "dpo":
        from hydralora.training.preferences import preference_collator  # TRL need not be installed

        return preference_collator(pad_id)
    return PackingCollator(pad_id, train.max_length) if train.packing else Collator(pad_id)


def given_to_method(plan: Plan, kind: type[AdapterTrainer]) -> dict[str, Any]:
    """What a method's mixin is given beside what every Trainer is."""
    if plan.config.train.objective == "dpo":
        return {"processing_class": plan.tokenizer}
    if not issubclass(kind, TrainsMethod):
        return {}
    given: dict[str, Any] = {"options": plan.config.adapter}
    if plan.tasks is not None:
        given["tasks"] = plan.tasks.names
    if isinstance(plan.config.adapter, HubOptions):
        given |= {"sources": plan.sources, "base_fingerprint": plan.base_fingerprint}
    return given


def _with_tasks(rows: list[Encoded], groups: list[int]) -> list[Any]:
    return [{**row, TASK: group} for row, group in zip(rows, groups, strict=True)]


def _twins(plan: Plan) -> list[Encoded]:
    """Every row with noise in its prompt; the same twins for the same seed."""
    options, train = plan.config.options_as(PoisonOptions), plan.config.train
    twins = []
    for number, (row, example) in enumerate(zip(plan.rows, plan.examples, strict=True)):
        noised = None
        if example.prompt:  # plain text is noised on its embeddings alone
            rng = random.Random(f"{train.seed}-{number}")
            twin = replace(example, prompt=noise_text(example.prompt, options.noise, rng) or example.prompt)
            noised = encode_example(plan.tokenizer, twin, train.max_length, train.learn)
        twins.append(noised or row)
    return twins
