"""Runs again with one thing changed: other seeds, or a LoRA of equal size beside a run with experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydralora.config import RunConfig, parse_config
from hydralora.errors import UserError
from hydralora.options import HeadOptions, LoraOptions
from hydralora.training.memory import trainable
from jobs.store.records import Run
from jobs.store.store import Store

MOST_STARTED = 32  # runs by one click or command
# Options that a LoRA of equal size takes over.
KEPT = ("target_modules", "lora_dropout", "use_rslora", "modules_to_save", "trainable_tokens")


def start_seeds(store: Store, run_ids: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    """Queue what is missing for every configuration among some runs to be there with all of these seeds.

    Runs that exist with the same rows and settings are not started again, unless they ended without a result.

    Returns:
        The runs of each configuration with these seeds, old and new, oldest first.

    Raises:
        UserError: When a run was not trained here, or more than ``MOST_STARTED`` would be started.
    """
    wanted: dict[str, tuple[Run, dict[str, Any]]] = {}
    for run_id in run_ids:
        run = _trained_here(store, run_id)
        wanted.setdefault(_key(run), (run, run.config.model_dump()))
    known = _known(store)
    missing = [(key, seed) for key in wanted for seed in seeds if (key, seed) not in known]
    if len(missing) > MOST_STARTED:
        raise UserError(f"{len(missing)} runs would be started; {MOST_STARTED} are the most. Choose fewer runs.")
    started = {}
    for key, seed in missing:
        run, config = wanted[key]
        again = {**config, "train": {**config["train"], "seed": seed}}
        name = f"{_without_seed(run.name)}, seed {seed}"
        started[key, seed] = _start(store, run, again, name)
    found = {**known, **started}
    return sorted((found[key, seed] for key in wanted for seed in seeds), key=lambda run: run.id)


def equal_lora(store: Store, run: Run) -> tuple[RunConfig, int, int]:
    """A plain LoRA with about as many trained weights as a run, on the same rows and with the same training settings.

    Its rank is the whole number that comes nearest; ``lora_alpha / r`` stays.

    Returns:
        Its configuration, its trained weights, and those of the run, the router's among them.

    Raises:
        UserError: When the run is a LoRA already, has no rank, or its base is not known well enough.
    """
    options = run.config.adapter
    if not isinstance(options, LoraOptions):
        raise UserError(f"Run {run.id} ({run.method}) has no rank, so there is no LoRA of equal size.")
    if not isinstance(options, HeadOptions):
        raise UserError(f"Run {run.id} is a plain {run.method} already. Choose a run with experts.")
    facts = store.base_checks.facts(store.bases.name_of(run.base))
    size = (run.summary.trainable + run.summary.router) if run.summary else trainable(facts, run.config)

    def of_rank(rank: int) -> RunConfig:
        kept = {name: getattr(options, name) for name in KEPT if getattr(options, name, None) is not None}
        adapter = {**kept, "r": rank, "lora_alpha": options.lora_alpha / options.r * rank}
        return parse_config({**run.config.model_dump(), "method": "lora", "adapter": adapter})

    one = trainable(facts, of_rank(1))
    each = trainable(facts, of_rank(2)) - one  # numbers that a rank more takes
    rank = max(1, round(1 + (size - one) / each))
    config = of_rank(rank)
    return config, trainable(facts, config), size


def start_equal_lora(store: Store, run_id: int) -> Run:
    """Queue the LoRA of equal size of a run; the one there is, where it was started before.

    Raises:
        UserError: As ``equal_lora`` does, or when the run was not trained here.
    """
    run = _trained_here(store, run_id)
    config, _, _ = equal_lora(store, run)
    known = _known(store).get((_key_of(run, config), config.train.seed))
    name = f"LoRA as large as {run.name}"
    return known or _start(store, run, config.model_dump(), name)


def _trained_here(store: Store, run_id: int) -> Run:
    run = store.runs.get(run_id)
    if run.is_imported or run.corpus_id is None:
        raise UserError(f"Run {run_id} was not trained here, so its settings are not known.")
    return run


def _start(store: Store, run: Run, config: dict[str, Any], name: str) -> Run:
    """Queue a run on the rows of another one."""
    assert run.corpus_id is not None
    own = run.config.train
    return store.runs.start(run.corpus_id, config, name=name, selection=own.selection, edits=own.edits)


def _known(store: Store) -> dict[tuple[str, int], Run]:
    """Runs that are finished or on their way, by configuration and seed; of several alike the newest."""
    found: dict[tuple[str, int], Run] = {}
    for run in store.runs.all():  # newest first
        ended = run.job is not None and run.job.is_finished
        if not run.is_imported and (run.summary is not None or not ended):
            found.setdefault((_key(run), run.config.train.seed), run)
    return found


def _key(run: Run) -> str:
    return _key_of(run, run.config)


def _key_of(run: Run, config: RunConfig) -> str:
    """What decides a run beside its seed: corpus, clusters and settings."""
    values = config.model_dump()
    return repr((run.corpus_id, {**values, "train": {**values["train"], "seed": None}}))


def _without_seed(name: str) -> str:
    """A name without the seed that an earlier repeat has put at its end."""
    before, sign, seed = name.rpartition("seed ")
    return before.rstrip(" ,") or name if sign and seed.strip().isdigit() else name
