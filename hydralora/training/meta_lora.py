"""MeTA-LoRA: one ordinary LoRA, trained so that a few steps on a task's examples help its other ones.

Each step draws a few tasks. Per task, a copy of the adapter takes ``inner_steps`` gradient steps
on a small support set; the gradient of the query loss *at the adapted copy* is added to the
shared adapter's (first order, no second derivatives):

``theta_i = theta - a sum_k grad L_i(support)``, ``theta <- theta - b mean_i grad L_i(query; theta_i)``.

Support and query of a task never share an example: they are drawn from two parts of it, cut once for the run or anew
in every step (``split``), in the ratio of their sizes. ``examples_per_task`` keeps only so many of a task, drawn once.

Source: Cheng et al. 2025, https://arxiv.org/abs/2510.11598 (abstract and figure; no code was
released). Ours: mean over tasks, plain gradient descent inside, the order of the averaging, how a task is cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from hydralora.errors import TrainingError
from hydralora.options import MetaOptions
from hydralora.training.mixin import TASK, ReadsTasks


class Episodes(Sampler[int]):
    """Places of the rows of one pass: episode after episode, in each task after task, its support before its query.

    The same for the same seed and pass. A pass has as many episodes as hold about every row once.

    Args:
        groups: Task number of every row.
        names: Of the tasks, for messages.
        together: Episodes whose gradients make one step (accumulation); a pass has a multiple of them.

    Raises:
        TrainingError: When a task has a single example.
    """

    def __init__(
        self, groups: Sequence[int], options: MetaOptions, seed: int, names: Sequence[str] = (), together: int = 1
    ) -> None:
        self.options, self.seed, self.epoch = options, seed, 0
        self.members: dict[int, list[int]] = {}
        for place, group in enumerate(groups):
            self.members.setdefault(group, []).append(place)
        for group, places in sorted(self.members.items()):
            if len(places) < 2:
                raise TrainingError(
                    f"Task {names[group] if names else group} has one example, and a task needs two: one for support, "
                    "one for query. Choose fewer clusters, or leave it out."
                )
            random.Random(f"{seed}-task-{group}").shuffle(places)
            self.members[group] = places[: options.examples_per_task or None]
        self.tasks = min(options.tasks_per_step, len(self.members))
        self.size = self.tasks * (options.support + options.query)  # rows of one episode
        self.count = together * max(1, round(sum(map(len, self.members.values())) / (self.size * together)))

    def set_epoch(self, epoch: int) -> None:
        """Which pass comes next; a run that goes on draws what the undisturbed one would."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count * self.size

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        for number in range(self.count):
            rng = random.Random(f"{self.seed}-{epoch}-{number}")
            for group in rng.sample(sorted(self.members), self.tasks):
                support, query = self.cut(group, rng)
                yield from _draw(support, self.options.support, rng)
                yield from _draw(query, self.options.query, rng)

    def cut(self, group: int, rng: random.Random) -> tuple[list[int], list[int]]:
        """The rows of a task that support and query are drawn from; no row is in both."""
        members, options = self.members[group], self.options
        if options.split == "every step":
            members = rng.sample(members, len(members))
        border = round(len(members) * options.support / (options.support + options.query))
        border = min(max(border, 1), len(members) - 1)
        return members[:border], members[border:]


def _draw(places: list[int], count: int, rng: random.Random) -> list[int]:
    """``count`` of the places in any order, each once before any twice."""
    rounds = -(-count // len(places))
    return [place for _ in range(rounds) for place in rng.sample(places, len(places))][:count]


class MetaLearns(ReadsTasks):
    """Before a Trainer: first-order meta-learning inside one training step, whose batch is one episode.

    ``per_device_train_batch_size`` becomes the rows of an episode: tasks times (support + query).
    """

    takes = MetaOptions
    unused = frozenset({"order", "epochs", "packing", "cluster_power"})  # an episode is drawn by task
    args: Any

    def __init__(self, model: Any, args: Any, *more: Any, **named: Any) -> None:
        super().__init__(model, args, *more, **named)
        together = self.args.gradient_accumulation_steps
        self.episodes = Episodes(self.groups, self.options, self.args.seed, self.tasks, together)
        self.args.per_device_train_batch_size = self.episodes.size
        self._train_batch_size = self.episodes.size

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.episodes

    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """Adapt to each task, add up the query gradients, put the shared adapter back; mean query loss."""
        model.train()
        batch = self._prepare_inputs(inputs)  # type: ignore[attr-defined]
        batch.pop(TASK, None)
        weights = [w for w in model.parameters() if w.requires_grad]
        shared = [w.detach().clone() for w in weights]
        of_task = self.options.support + self.options.query
        tasks = len(batch["input_ids"]) // of_task
        share = 1.0 / (tasks * self.current_gradient_accumulation_steps)  # type: ignore[attr-defined]
        total = torch.zeros((), device=batch["input_ids"].device)
        for begin in range(0, tasks * of_task, of_task):
            border = begin + self.options.support
            for _ in range(self.options.inner_steps):
                self._descend(model, weights, _rows(batch, begin, border))
            loss = self.compute_loss(model, _rows(batch, border, begin + of_task))
            self.accelerator.backward(loss * share)  # type: ignore[attr-defined]
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
                weight -= self.options.inner_learning_rate * gradient


def _rows(batch: dict[str, Tensor], begin: int, end: int) -> dict[str, Tensor]:
    """A part of a batch."""
    return {name: value[begin:end] for name, value in batch.items()}
