"""How long a run will take: from the measured speed of this machine, else from a run like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydralora.base_folder import name_base
from hydralora.config import RunConfig, TrainConfig, parse_config
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.presets import Speed, preset_settings
from jobs.records import Job
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards


def like(base: str, method: str) -> RunConfig | None:
    """The configuration whose speed stands for all runs of a method on a base; None while one of them is wrong.

    A method that mixes finished runs has no speed of its own before they are chosen.
    """
    if method not in METHODS or "sources" in METHODS[method].options.model_fields:
        return None
    try:
        return parse_config({"base": name_base(base.strip() or "starter"), "method": method})
    except UserError:
        return None  # the start button says what is wrong


def known_speed(store: Store, corpus_id: int | None, base: str, method: str) -> Speed | None:
    """The measured speed, or None."""
    config = like(base, method)
    return store.speeds.get(corpus_id, config) if corpus_id and config else None


def ask_speed(store: Store, corpus_id: int | None, base: str, method: str, *, fetch: bool = False) -> Job | None:
    """Have the speed measured; a base that must be fetched from a hub only where ``fetch`` says so."""
    config = like(base, method)
    if corpus_id is None or config is None or not (fetch or config.base == "starter" or Path(config.base).is_dir()):
        return None
    clustering = store.latest_clustering(corpus_id, finished=True)
    return store.speeds.ask(corpus_id, config, clustering.id if clustering else None)


def settings_of(store: Store, name: str, corpus_id: int | None, base: str, method: str) -> dict[str, Any]:
    """Every training setting of a preset on this machine."""
    speed = known_speed(store, corpus_id, base, method)
    examples = store.corpus(corpus_id).examples if corpus_id else None
    return {**TrainConfig().model_dump(), **preset_settings(name, speed, examples)}


def tell(store: Store, corpus_id: int | None, base: str, method: str, steps: int, batch: int, every: int) -> str:
    """One sentence on how long the run will take, and where that is known from."""
    speed = known_speed(store, corpus_id, base, method)
    if speed is not None and steps > 0:
        seconds = speed.seconds(steps, batch, steps // every if every else 0)
        return f"About {cards.duration(seconds)}, from a few steps timed on this machine."
    config = like(base, method)
    job = store.speeds.job(corpus_id, config) if corpus_id and config else None
    if job is not None and not job.is_finished:
        waits = job.status == JobStatus.QUEUED
        return (
            "The speed is timed when the training at work has ended."
            if waits
            else "Timing a few steps on this machine …"
        )
    if job is not None and job.status == JobStatus.FAILED:
        return f"The speed could not be timed: {job.error}"
    return _from_runs(store, config, steps, batch)


def _from_runs(store: Store, config: RunConfig | None, steps: int, batch: int) -> str:
    for run in store.runs():
        summary = run.summary
        same = config is not None and run.config["base"] == config.base and run.config["method"] == config.method
        if summary and same and not run.is_imported and run.status == JobStatus.SUCCEEDED:
            per_step = summary["seconds"] / max(1, summary["steps"] - (summary.get("resumed_from") or 0))
            seconds = per_step * steps * batch / max(1, run.config["train"]["batch_size"])
            return f"About {cards.duration(seconds)}, judged by run {run.id} on the same base with the same method."
    return "How long it takes is not known yet. “Time a few steps” finds out."
