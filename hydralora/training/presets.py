"""Plain choices of how long to train: minutes on this machine, turned into steps by its measured speed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from hydralora.bounds import MOST_STEPS
from hydralora.config import TrainConfig
from hydralora.errors import TrainingError
from hydralora.training.objective import MEASURE_COST, STEP_COST

MEASUREMENTS = 10  # held-out losses during a run
FEWEST_STEPS = 20
WANTED_STEPS = 150  # below this the batch is halved, so that the optimizer gets enough steps
LEAST_BATCH = 4  # examples of a step, however slow the machine is
LARGE = 20_000_000  # parameters from which a base is a real language model, which takes longer
MOST_EPOCHS = 30  # nobody learns from seeing an example more often
SHORT_CORPUS_STEPS = 200  # always allowed, however few examples there are


@dataclass(frozen=True)
class Speed:
    """Seconds of each part of a run at ``batch`` examples an optimizer step; measured by ``measure_speed``."""

    start: float  # until the first step has ended: load, encode, held-out loss before training
    step: float
    evaluation: float  # one held-out loss, and about what saving costs
    batch: int

    def seconds(self, steps: int, batch: int, measurements: int) -> float:
        """How long a run takes: ``start + steps * step * batch / self.batch + (1 + measurements) * evaluation``."""
        return self.start + steps * self.step * batch / self.batch + (1 + measurements) * self.evaluation

    def of_run(self, train: TrainConfig, examples: int) -> float:
        """How long a run over a corpus of so many examples takes, those held out among them.

        Raises:
            TrainingError: When its epochs are more steps than a run may have.
        """
        steps = expected_steps(train, examples)
        measurements = steps // train.eval_every if train.eval_every else 0
        batch, step, measure = train.batch_size * train.accumulation, STEP_COST, MEASURE_COST
        costly = replace(
            self, step=self.step * step[train.objective], evaluation=self.evaluation * measure[train.objective]
        )
        return costly.seconds(steps, batch, measurements)


@dataclass(frozen=True)
class Preset:
    """Minutes, and steps where the speed of this machine is not known yet: for a base of the starter's size, and for
    one of ``LARGE`` parameters or more."""

    summary: str
    minutes: float
    steps: int
    large_minutes: float
    large_steps: int


PRESETS: dict[str, Preset] = {
    "Quick": Preset("a first result, 3 minutes on the starter, 8 on a larger base", 3, 2_000, 8, 100),
    "Balanced": Preset("8 or 25 minutes", 8, 4_000, 25, 300),
    "Thorough": Preset("25 or 90 minutes; watch the held-out loss", 25, 10_000, 90, 1_000),
}


def preset_settings(
    name: str,
    speed: Speed | None = None,
    examples: int | None = None,
    *,
    parameters: int = 0,
    at_once: int | None = None,
) -> dict[str, Any]:
    """The training settings of a preset: steps, batch, and how often to measure and save.

    Args:
        speed: How fast this machine is; without it the preset's own number of steps is taken.
        examples: Training examples, so that a fast machine does not repeat few of them for ever.
        parameters: Of the base.
        at_once: Examples of a step that are read at once; all of them where None.
    """
    preset, is_large = PRESETS[name], parameters >= LARGE
    if speed is None:
        return _with_rhythm(preset.large_steps if is_large else preset.steps, {})
    minutes = preset.large_minutes if is_large else preset.minutes
    return settings_for(60 * minutes, speed, examples, at_once=at_once)


def settings_for(
    seconds: float, speed: Speed, examples: int | None = None, *, at_once: int | None = None
) -> dict[str, Any]:
    """Steps and batch that fill ``seconds`` at this speed."""
    room = seconds - speed.start - (1 + MEASUREMENTS) * speed.evaluation
    batch = speed.batch
    while batch > LEAST_BATCH and room / (speed.step * batch / speed.batch) < WANTED_STEPS:
        batch //= 2
    steps = int(room / (speed.step * batch / speed.batch))
    if examples:
        steps = min(steps, max(SHORT_CORPUS_STEPS, MOST_EPOCHS * examples // batch))
    part = next(part for part in range(min(batch, at_once or batch), 0, -1) if batch % part == 0)
    return _with_rhythm(
        max(FEWEST_STEPS, _round_down(steps)), {"batch_size": part, "accumulation": max(1, batch // part)}
    )


def planned_steps(train: TrainConfig, examples: int) -> int:
    """Optimizer steps of a run: ``max_steps``, or what its ``epochs`` over so many examples come to, rounded up.

    Raises:
        TrainingError: When these are more steps than a run may have.
    """
    if not train.epochs:
        return train.max_steps
    passes = -(-examples // train.batch_size)
    steps = max(1, math.ceil(train.epochs * -(-passes // train.accumulation)))
    if steps > MOST_STEPS:
        raise TrainingError(
            f"`epochs` is {train.epochs:g}, which is {steps:,} steps with {examples:,} examples, and a run has at most "
            f"{MOST_STEPS:,}. Take fewer epochs, or a larger batch."
        )
    return steps


def expected_steps(train: TrainConfig, examples: int) -> int:
    """``planned_steps`` for a corpus of so many examples of which some are held out, before it is looked at.

    Raises:
        TrainingError: When these are more steps than a run may have.
    """
    return planned_steps(train, round(examples * (1 - train.held_out_fraction)))


def _with_rhythm(steps: int, more: dict[str, Any]) -> dict[str, Any]:
    return {"max_steps": steps, "eval_every": max(1, steps // MEASUREMENTS), "save_every": max(10, steps // 5), **more}


def _round_down(steps: int) -> int:
    """To 10 steps below 1,000, else to 50."""
    unit = 10 if steps < 1_000 else 50
    return steps // unit * unit


def speed_of(values: dict[str, Any] | None) -> Speed | None:
    """A stored speed; None where there is none."""
    return Speed(**{name: values[name] for name in Speed.__dataclass_fields__}) if values else None


def stored(speed: Speed) -> dict[str, Any]:
    """A speed as it is stored."""
    return asdict(speed)
