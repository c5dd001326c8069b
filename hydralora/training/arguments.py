"""A run's settings as `transformers.TrainingArguments`, and the settings that a method cannot take."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from hydralora.config import RunConfig, TrainConfig
from hydralora.errors import TrainingError
from hydralora.training.ranks import share_of, world_size

OPTIMIZERS = {  # by the names of `transformers.training_args.OptimizerNames`
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
}
FROM_BITSANDBYTES = ("adamw_8bit", "lion")


def learning_rate_for(width: int, method: str = "hydralora") -> float:
    """A peak learning rate by the width of the base: ``0.64 / width``, at most 0.004.

    It gives 1.6e-4 at width 4,096, where the papers use 2e-4, and 0.004 at the starter's 160,
    where it was best of 0.002, 0.004, 0.005 and 0.01 (docs/starter.md). Full fine-tuning moves
    every weight and takes a tenth of it.
    """
    return min(4e-3, 0.64 / max(1, width)) * (0.1 if method == "full" else 1.0)


def refuse_unused(unused: Collection[str], config: RunConfig) -> None:
    """Refuse settings that would do nothing, and an optimizer whose package is missing.

    Raises:
        TrainingError: With the setting and its value.
    """
    for name in sorted(unused):
        value, usual = getattr(config.train, name), TrainConfig.model_fields[name].default
        if value != usual:
            raise TrainingError(f"`{name}` is {value}, but {config.method} does not use it. Leave it at {usual}.")
    if config.train.answered and not (config.train.eval_every and config.train.held_out_fraction):
        raise TrainingError(
            f"`answered` is {config.train.answered}, but nothing is measured. Raise `held_out_fraction` and "
            "`eval_every`, or set `answered` to 0."
        )
    if config.train.cluster_power != 1.0 and config.train.order != "shuffled":
        raise TrainingError(
            f"`cluster_power` is {config.train.cluster_power:g} and `order` is {config.train.order}: a batch is drawn "
            "by one of them. Leave `cluster_power` at 1, or `order` at shuffled."
        )
    if config.train.optimizer in FROM_BITSANDBYTES and find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"`optimizer` is {config.train.optimizer}, which needs the package bitsandbytes. Install it, or take adamw."
        )


def early_end(train: TrainConfig, has_held_out: bool) -> list[TrainerCallback]:
    """What ends a run whose held-out loss does not fall any more.

    Raises:
        TrainingError: When that loss is never measured.
    """
    if not train.patience:
        return []
    if not has_held_out or not train.eval_every:
        raise TrainingError(
            f"`patience` is {train.patience}, but no held-out loss is measured. Raise `held_out_fraction` and "
            "`eval_every`, or set `patience` to 0."
        )
    return [EarlyStoppingCallback(early_stopping_patience=train.patience)]


def training_arguments(config: RunConfig, run_folder: Path, has_held_out: bool, width: int) -> TrainingArguments:
    return on_one_device(TrainingArguments(**settings_of(config, run_folder, has_held_out, width)))


def settings_of(config: RunConfig, run_folder: Path, has_held_out: bool, width: int) -> dict[str, Any]:
    """A run's settings by the names of `transformers.TrainingArguments`."""
    train = config.train
    batch, passes = share_of(train, world_size())
    return dict(
        output_dir=str(run_folder / "checkpoints"),
        max_steps=train.max_steps,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=train.batch_size,  # measuring takes no more memory than training
        gradient_accumulation_steps=passes,
        learning_rate=train.learning_rate or learning_rate_for(width, config.method),
        optim=OPTIMIZERS[train.optimizer],
        neftune_noise_alpha=train.neftune_noise or None,
        train_sampling_strategy="group_by_length" if train.order == "by length" else "random",
        metric_for_best_model="eval_loss" if has_held_out and train.eval_every else None,  # its checkpoint is kept
        greater_is_better=False,
        restore_callback_states_from_checkpoint=bool(train.patience),  # how often it has not fallen in a row
        lr_scheduler_type=train.scheduler,
        warmup_steps=int(train.warmup_fraction * train.max_steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        eval_strategy="steps" if has_held_out and train.eval_every else "no",
        eval_steps=train.eval_every or None,
        save_strategy="steps" if train.save_every else "no",
        save_steps=train.save_every or 500,
        save_total_limit=None,  # the Trainer would delete the old ones before the new one is sealed
        logging_steps=1,
        logging_nan_inf_filter=False,
        gradient_checkpointing=train.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if train.gradient_checkpointing else None,
        seed=train.seed,
        data_seed=train.seed,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=world_size() > 1 and not torch.cuda.is_available(),  # else several processes do not find each other
    )


def on_one_device(arguments: TrainingArguments) -> TrainingArguments:
    """Train on the device of this process alone.

    With several GPUs in sight the Trainer would wrap the model in ``DataParallel`` by itself, which multiplies the
    batch and loses what layers keep of a pass. Several GPUs take several processes (`torchrun`), each with its own.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
