"""LoRA-Split with hard labels: each example trains and is measured with the head of its own task.

``y = W0 x + s B_t A_t x`` for an example of task t (its cluster or its label), as many heads as tasks.
Later, without a known task, every head speaks with an equal share, unless one is chosen
(``choose_heads`` for the examples of a batch, ``override_experts(force=...)`` for all).

Source: Tian et al. 2024, https://arxiv.org/abs/2404.19245, observation I (one head for each sub-task;
no code was released). Ours: that the head is picked by the example, and what happens without a task.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from hydralora.corpus.batches import Collator, Encoded
from hydralora.errors import TrainingError
from hydralora.training.trainer import AdapterTrainer, Plan
from hydralora.tuner.gates import choose_heads


class HeadCollator(Collator):
    """Batches with ``head`` ``(batch,)``, the task of every row."""

    def __call__(self, examples: list[Any]) -> dict[str, Tensor]:
        batch = super().__call__(examples)
        batch["head"] = torch.tensor([example["head"] for example in examples])
        return batch


class SplitTrainer(AdapterTrainer):
    """The usual loop; where heads are hard, every batch names the head of each example."""

    unused = frozenset({"packing"})  # a row has one head

    @classmethod
    def feed(cls, plan: Plan, arguments: TrainingArguments) -> tuple[Any, Any]:
        """Rows that know their head.

        Raises:
            TrainingError: When there are not as many heads as tasks.
        """
        if plan.tasks is None:
            return super().feed(plan, arguments)
        heads, tasks = plan.config.adapter.experts, plan.tasks.names
        if heads != len(tasks):
            raise TrainingError(
                f"Hard LoRA-Split needs one head for each of the {len(tasks)} tasks ({', '.join(tasks[:8])}), but "
                f"`num_experts` is {heads}. Set it to {len(tasks)}, or choose another k."
            )
        return cls.with_heads(plan)

    @classmethod
    def with_heads(cls, plan: Plan) -> tuple[Any, Any]:
        """The rows and a collator that name the task of each."""
        return _with_heads(plan.rows, plan.groups or []), HeadCollator(plan.tokenizer.pad_token_id)

    @classmethod
    def held_out(cls, plan: Plan) -> list[Any]:
        """Held-out rows are measured with the head of their own task too."""
        return _with_heads(plan.held_out, plan.held_out_groups) if plan.tasks else super().held_out(plan)

    def compute_loss(  # type: ignore[no-untyped-def, override]
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """The usual loss with every example's own head."""
        # The choice stays until the next batch: gradient checkpointing asks for it again in backward.
        choose_heads(model, inputs.pop("head", None))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def _with_heads(rows: list[Encoded], groups: list[int]) -> list[Any]:
    return [{**row, "head": group} for row, group in zip(rows, groups, strict=True)]
