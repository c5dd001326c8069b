"""MeTA-LoRA: one ordinary LoRA, trained so that a few steps on a task's examples help its other ones.

Each step draws a few tasks. Per task, a copy of the adapter takes ``inner_steps`` gradient steps
on a small support set; the gradient of the query loss *at the adapted copy* is added to the
shared adapter's (first order, no second derivatives):

``theta_i = theta - a sum_k grad L_i(support)``, ``theta <- theta - b mean_i grad L_i(query; theta_i)``.

Source: Cheng et al. 2025, https://arxiv.org/abs/2510.11598 (abstract and figure; no code was
released). Ours: mean over tasks, plain gradient descent inside, the order of the averaging.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainingArguments

from hydralora.corpus.batches import Collator, Encoded
from hydralora.methods import MetaOptions
from hydralora.training.trainer import AdapterTrainer, Plan

SUPPORT, QUERY = 0, 1


class Episodes(Dataset):  # type: ignore[type-arg]
    """Episode ``i``: some tasks with support and query rows, the same for the same seed."""

    def __init__(
        self, rows: list[Encoded], groups: list[int], *, tasks: int, support: int, query: int, count: int, seed: int
    ) -> None:
        self.rows, self.count, self.seed = rows, count, seed
        self.tasks, self.support, self.query = tasks, support, query
        self.members: dict[int, list[int]] = {}
        for position, group in enumerate(groups):
            self.members.setdefault(group, []).append(position)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[tuple[int, int, Encoded]]:
        """``(task, part, row)`` triples; a small task repeats rows rather than leave the episode short."""
        rng = random.Random(f"{self.seed}-{index}")
        chosen = rng.sample(sorted(self.members), min(self.tasks, len(self.members)))
        episode = []
        for task in chosen:
            positions, need = self.members[task], self.support + self.query
            drawn = rng.sample(positions, need) if len(positions) >= need else rng.choices(positions, k=need)
            parts = [SUPPORT] * self.support + [QUERY] * self.query
            episode += [(task, part, self.rows[p]) for part, p in zip(parts, drawn, strict=True)]
        return episode


class EpisodeCollator(Collator):
    """Episodes as one batch with ``task`` and ``part`` ``(batch,)``; held-out rows as usual."""

    def __call__(self, examples: list[Any]) -> dict[str, Tensor]:
        if isinstance(examples[0], dict):
            return super().__call__(examples)
        triples = [triple for episode in examples for triple in episode]
        batch = super().__call__([row for _, _, row in triples])
        batch["task"] = torch.tensor([task for task, _, _ in triples])
        batch["part"] = torch.tensor([part for _, part, _ in triples])
        return batch


class MetaTrainer(AdapterTrainer):
    """First-order meta-learning inside one training step; everything else is the Trainer's."""

    unused = frozenset({"order", "epochs", "packing", "cluster_power"})  # an episode is drawn by task
    inner_steps, inner_rate = 1, 1e-2

    @classmethod
    def feed(cls, plan: Plan, arguments: TrainingArguments) -> tuple[Any, Any]:
        """Episodes; a batch is one episode."""
        chosen, train = plan.config.options_as(MetaOptions), plan.config.train
        arguments.per_device_train_batch_size = 1
        episodes = Episodes(
            plan.rows,
            plan.groups or [],
            tasks=chosen.tasks_per_step,
            support=chosen.support,
            query=chosen.query,
            count=train.max_steps * train.accumulation,
            seed=train.seed,
        )
        return episodes, EpisodeCollator(plan.tokenizer.pad_token_id)

    def prepare(self, plan: Plan) -> None:
        """Take over the inner settings."""
        chosen = plan.config.options_as(MetaOptions)
        self.inner_steps, self.inner_rate = chosen.inner_steps, chosen.inner_learning_rate

    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """Adapt to each task, add up the query gradients, put the shared adapter back; mean query loss."""
        model.train()
        batch = self._prepare_inputs(inputs)
        task, part = batch.pop("task"), batch.pop("part")
        weights = [w for w in model.parameters() if w.requires_grad]
        shared = [w.detach().clone() for w in weights]
        tasks = task.unique().tolist()
        share = 1.0 / (len(tasks) * self.current_gradient_accumulation_steps)
        total = torch.zeros((), device=task.device)
        for number in tasks:
            support = _select(batch, (task == number) & (part == SUPPORT))
            query = _select(batch, (task == number) & (part == QUERY))
            for _ in range(self.inner_steps):
                self._descend(model, weights, support)
            loss = self.compute_loss(model, query)
            self.accelerator.backward(loss * share)
            total += loss.detach() * share
            with torch.no_grad():
                for weight, value in zip(weights, shared, strict=True):
                    weight.copy_(value)
        return total

    def _descend(self, model: torch.nn.Module, weights: list[Tensor], batch: dict[str, Tensor]) -> None:
        """One step of plain gradient descent, in place."""
        gradients = torch.autograd.grad(self.compute_loss(model, batch), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= self.inner_rate * gradient


def _select(batch: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The rows of a batch for which the mask ``(batch,)`` is true."""
    return {name: value[rows] for name, value in batch.items()}
