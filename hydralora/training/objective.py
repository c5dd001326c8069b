"""What a run learns from: answers, or preferences (DPO). What the second needs is told before a run is queued.

Nothing here imports torch or TRL.
"""

from __future__ import annotations

from importlib.util import find_spec

from hydralora.config import RunConfig, TrainConfig
from hydralora.errors import TrainingError
from hydralora.methods import METHODS

QUANTISED = ("int8", "nf4")
# Passes over one example in a step, in those of a step that learns an answer (forward once, backward twice as long):
# a pair is two rows, each read by the policy and once more, without gradients, by the reference.
STEP_COST = {"answers": 1.0, "dpo": 8 / 3}
MEASURE_COST = {"answers": 1.0, "dpo": 4.0}


def check_objective(config: RunConfig, pairs: int) -> None:
    """Refuse preferences where they cannot be learnt.

    Args:
        pairs: Examples of the corpus that hold a better and a worse answer.

    Raises:
        TrainingError: With the setting and the way out.
    """
    train, method = config.train, METHODS[config.method]
    usual = TrainConfig.model_fields["dpo_beta"].default
    if train.objective == "answers":
        if train.dpo_beta != usual:
            raise TrainingError(
                f"`dpo_beta` is {train.dpo_beta:g}, but `objective` is answers, which does not use it. Leave it at "
                f"{usual:g}, or set `objective` to dpo."
            )
        return
    if not method.learns_pairs:
        able = ", ".join(name for name, one in METHODS.items() if one.learns_pairs)
        raise TrainingError(
            f"`objective` is dpo, but {method.title} has a training of its own, or no layers that can be switched off "
            f"for the reference. Choose one of {able}, or set `objective` to answers."
        )
    if config.adapter.task_source is not None:
        raise TrainingError(
            f"`objective` is dpo, but these options of {method.title} learn from the task of each example. Switch them "
            "off, or set `objective` to answers."
        )
    if train.packing:
        raise TrainingError("`packing` is on, but `objective` dpo compares whole rows. Switch it off.")
    if train.dtype in QUANTISED:
        raise TrainingError(
            f"`dtype` is {train.dtype}, but `objective` dpo is for bases in 16 or 32 bits. Take auto, bfloat16 or "
            "float32."
        )
    if find_spec("trl") is None:
        raise TrainingError(
            "`objective` is dpo, which needs the package trl. Install it (`pip install 'hydralora[trl]'`), or set "
            "`objective` to answers."
        )
    if not pairs:
        raise TrainingError(
            "`objective` is dpo, but this corpus holds no pairs of a better and a worse answer. Choose one with "
            "columns such as chosen and rejected (read again, if an earlier version imported it), or set `objective` "
            "to answers."
        )
