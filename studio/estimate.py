"""How long a run will take: from the measured speed of this machine, else from a run like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from hydralora.config import RunConfig, TrainConfig, parse_config
from hydralora.errors import TrainingError, UserError
from hydralora.methods import METHODS
from hydralora.plain import without_paths
from hydralora.results.bases import BaseFacts
from hydralora.training.objective import STEP_COST
from hydralora.training.presets import Speed, expected_steps, preset_settings
from jobs.machine import look_at_machine
from jobs.sizes import sizes_of
from jobs.store.records import Job, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards


class Place(NamedTuple):
    """What the speed of a run depends on."""

    corpus_id: int | None
    base: str
    method: str


def like(store: Store, place: Place) -> RunConfig | None:
    """The configuration whose speed stands for all runs of a method on a base; None while one of them is wrong.

    A method that mixes finished runs has no speed of its own before they are chosen.
    """
    if place.method not in METHODS or METHODS[place.method].tuner == "COMPOSED":
        return None
    try:
        base = store.bases.resolve(place.base.strip() or "starter")
        return parse_config({"base": base, "method": place.method, "train": sizes(store, place)})
    except UserError:
        return None  # the start button says what is wrong


def known_facts(store: Store, place: Place) -> BaseFacts | None:
    """What the files of the base tell; None while it is half a name, or on a hub."""
    try:
        return store.base_checks.facts(place.base.strip() or "starter")
    except UserError:
        return None


def sizes(store: Store, place: Place) -> dict[str, Any]:
    """The settings that the base asks for; nothing where it is not known yet."""
    facts = known_facts(store, place)
    if facts is None or place.method not in METHODS:
        return {}
    found = sizes_of(facts, look_at_machine())
    return {"dtype": found["dtype"]} if METHODS[place.method].has_own_batch else found


def known_speed(store: Store, place: Place) -> Speed | None:
    """The measured speed, or None."""
    config = like(store, place)
    return store.speeds.get(place.corpus_id, config) if place.corpus_id and config else None


def ask_speed(store: Store, place: Place, *, fetch: bool = False) -> Job | None:
    """Have the speed measured after all that waits; by itself (without ``fetch``) only where nothing does.

    A base that must be fetched from a hub is timed only where ``fetch`` says so.
    """
    config, corpus_id = like(store, place), place.corpus_id
    if (
        corpus_id is None
        or config is None
        or not (fetch or config.base == "starter" or Path(config.base).is_absolute())
    ):
        return None
    if not fetch and store.queue.has_waiting("heavy"):
        return None
    clustering = store.clusterings.latest(corpus_id, finished=True)
    return store.speeds.ask(corpus_id, config, clustering)


def settings_of(store: Store, name: str, place: Place) -> dict[str, Any]:
    """Every training setting of a preset on this machine."""
    speed = known_speed(store, place)
    examples = store.corpora.get(place.corpus_id).examples if place.corpus_id else None
    facts, asked = known_facts(store, place), sizes(store, place)
    parameters, at_once = facts.parameters if facts else 0, asked.get("batch_size")
    chosen = preset_settings(name, speed, examples, parameters=parameters, at_once=at_once)
    return {**TrainConfig().model_dump(), **asked, **chosen}


def timing(store: Store, place: Place) -> Job | None:
    """The newest measurement of such a run, unless it has succeeded."""
    config = like(store, place)
    return store.speeds.job(place.corpus_id, config) if place.corpus_id and config else None


def can_time(store: Store, place: Place) -> bool:
    """Whether the speed of such a run is unknown, and neither measured just now nor tried in vain."""
    return known_speed(store, place) is None and timing(store, place) is None and _like_run(store, place) is None


def tell(store: Store, place: Place, values: dict[str, Any]) -> str:
    """One sentence on how long a run with these settings of its training will take, and where that is known from."""
    examples = (store.corpora.get(place.corpus_id).examples or 0) if place.corpus_id else 0
    try:
        train = TrainConfig.model_validate(values)
        steps = expected_steps(train, examples)
    except (ValidationError, TrainingError):
        return "How long it takes is told once every number above is within its bounds."
    size = train.batch_size * train.accumulation
    told = f"A step is {size} examples, {train.batch_size} at once to save memory. " if train.accumulation > 1 else ""
    if size < TrainConfig().batch_size:
        told = f"A step is {size} examples in place of the usual {TrainConfig().batch_size}. "
    counted = f"{train.epochs:g} epochs are about {steps:,} steps. " if train.epochs else ""
    return counted + told + _tell_time(store, place, train, steps, examples)


def _tell_time(store: Store, place: Place, train: TrainConfig, steps: int, examples: int) -> str:
    speed, job = known_speed(store, place), timing(store, place)
    if speed is not None:
        return f"About {cards.duration(speed.of_run(train, examples))}, from a few steps timed on this machine."
    if job is not None and job.status == JobStatus.QUEUED:
        return "The speed is timed when the trainings before it have ended."
    if job is not None and not job.is_finished:
        return "Timing a few steps on this machine …"
    if job is not None and job.status == JobStatus.FAILED:
        return f"The speed could not be timed: {without_paths(job.error or '')}"
    run = _like_run(store, place)
    if run is None or run.summary is None or run.summary.seconds_per_step is None:
        return "How long it takes is not known yet. “Time a few steps” finds out."
    other = run.config.train
    share = train.batch_size * train.accumulation / (other.batch_size * other.accumulation)
    seconds = run.summary.seconds_per_step * steps * share * STEP_COST[train.objective]
    return f"About {cards.duration(seconds)}, judged by run {run.id} on the same base with the same method."


def _like_run(store: Store, place: Place) -> Run | None:
    """The newest finished run on the same base with the same method."""
    config = like(store, place)
    if config is None:
        return None
    for run in store.runs.all():
        same = run.base == config.base and run.method == config.method and run.config.train.objective == "answers"
        if run.summary and same and not run.is_imported and run.status == JobStatus.SUCCEEDED:
            return run
    return None
