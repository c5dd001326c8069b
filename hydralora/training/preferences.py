"""Direct preference optimisation (DPO): TRL's trainer with our report of every step, checkpoints and router losses.

``L = -log sigmoid(beta ((log p(y_w|x) - log q(y_w|x)) - (log p(y_l|x) - log q(y_l|x))))`` for a better answer ``y_w``
and a worse one ``y_l`` to a prompt ``x``; ``p`` is the base with the adapter and ``q``, the reference, the base with
the adapter switched off. Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from hydralora.config import RunConfig
from hydralora.corpus.pairs import pair_tokens
from hydralora.errors import TrainingError
from hydralora.training.arguments import settings_of
from hydralora.training.trainer import AdapterTrainer
from hydralora.tuner.passes import is_seq2seq

REFERENCE = "ref"  # TRL's name for the copy of the adapter that it makes
OF_ADAPTERS = ("lora_", "hydralora_", "ia3_")  # names of parts of adapters begin so
METRICS = {"margin": "rewards/margins", "preferred": "rewards/accuracies"}  # ours, TRL's


def preference_arguments(config: RunConfig, run_folder: Path, has_held_out: bool, width: int) -> DPOConfig:
    """A run's settings as TRL's: rows are cut already, and the number format is that of the base."""
    settings = settings_of(config, run_folder, has_held_out, width)
    return DPOConfig(**settings, beta=config.train.dpo_beta, max_length=None, disable_dropout=False, bf16=False)


def preference_collator(pad_id: int) -> DataCollatorForPreference:
    """What makes a batch of pairs: the better answers ``(pairs, longest)`` above the worse ones."""
    return DataCollatorForPreference(pad_token_id=pad_id)


class PreferenceTrainer(AdapterTrainer, DPOTrainer):
    """The Trainer of adapters with TRL's loss of pairs.

    The reference is the base alone. Dropout of the base is off, so that both read alike; the adapter keeps its own.

    Args:
        train_dataset: Rows with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; ``eval_dataset`` alike.

    Raises:
        TrainingError: When the base reads one text and writes another.
    """

    def __init__(self, model: Any, args: DPOConfig, *, train_dataset: Any, eval_dataset: Any = None, **named: Any):
        if is_seq2seq(model.get_base_model()):
            raise TrainingError(
                "`objective` is dpo, but this base reads one text and writes another. Set `objective` to answers."
            )
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        sides = [_dataset(rows) if rows else None for rows in (train_dataset, eval_dataset)]
        super().__init__(model=model, args=args, train_dataset=sides[0], eval_dataset=sides[1], **named)
        model.delete_adapter(REFERENCE)  # a copy of the start, which need not be the base
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in trained)
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout) and not any(p.startswith(OF_ADAPTERS) for p in name.split(".")):
                module.p = 0.0
        self.sizes: list[int] = []  # pairs of each measured batch

    def _prepare_dataset(self, dataset: Any, *given: Any) -> Any:
        """As it is: rows are token ids already."""
        return dataset

    def _send_telemetry(self) -> None:
        """Nobody is told of a run."""

    def create_model_card(self, *args: Any, **named: Any) -> None:
        """None: what an adapter is stands in its ``run.json``."""

    def _with_fewer_logits(self, model: nn.Module, inputs: Any) -> Any:
        """As it is: TRL computes no logits of prompts."""
        return inputs

    def lengths_of(self, rows: Any) -> list[int]:
        """Tokens of the longer side of each pair with its prompt, ``(pairs,)``."""
        return [row["length"] for row in rows]

    def _add_held_out(self, loss: Tensor, inputs: Any) -> None:
        pairs = len(inputs["input_ids"]) // 2
        self.sizes.append(pairs)
        self.measured = (self.measured[0] + loss.item() * pairs, self.measured[1] + pairs)

    def evaluation_loop(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Measure the held-out pairs: the mean loss, the mean margin of rewards, and the share that is told right."""
        self.sizes = []
        self._metrics["eval"].clear()
        output = super().evaluation_loop(*args, **kwargs)
        weights = torch.tensor(self.sizes, dtype=torch.float64, device="cpu")
        for name, theirs in METRICS.items():
            values = torch.tensor(self._metrics["eval"].get(theirs, []), dtype=torch.float64, device="cpu")
            output.metrics[f"eval_{name}"] = float((values * weights).sum() / weights.sum())
        self._metrics["eval"].clear()
        return output

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Tell the numbers of a step, with the pairs' under our names."""
        for name, theirs in METRICS.items():
            values = self._metrics["train"].get(theirs)  # reading by [] would add an empty list
            if "loss" in logs and values:
                logs[name] = sum(values) / len(values)
        super().log(logs, *args, **kwargs)


def _dataset(rows: list[dict[str, list[int]]]) -> Dataset:
    """Rows with their ``length`` in tokens, by which batches of like length are made and measured."""
    return Dataset.from_list([{**row, "length": pair_tokens(row)} for row in rows])
