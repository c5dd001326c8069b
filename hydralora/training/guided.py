"""Routers that learn from the task of each row: supervised, or balanced by groups of tasks.

A loss of the layer asks for the tasks (``task_weight``, ``balance_loss`` groups); the training names them for every
batch, its task a number from the column ``task``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hydralora.errors import TrainingError
from hydralora.options import TaskOptions
from hydralora.training.mixin import ReadsTasks
from hydralora.tuner.gates import choose_heads


class GuidedByTask(ReadsTasks):
    """Before a Trainer: the losses of the routers are told the task of each row; -1 is none.

    Raises:
        TrainingError: When heads or groups do not suffice for the tasks.
    """

    takes = TaskOptions
    unused = frozenset({"packing"})  # a row has one task

    def __init__(self, model: Any, args: Any, *more: Any, **named: Any) -> None:
        super().__init__(model, args, *more, **named)
        options, named_tasks = self.options, ", ".join(self.tasks[:8])
        if options.task_weight and len(self.tasks) > options.experts:
            raise TrainingError(
                f"A supervised router needs a head for each of the {len(self.tasks)} tasks ({named_tasks}), but "
                f"`num_experts` is {options.experts}. Set it to {len(self.tasks)} or more, or `task_weight` to 0."
            )
        if options.balances_groups and options.task_groups and len(options.task_groups) != len(self.tasks):
            raise TrainingError(
                f"`task_groups` names groups of {len(options.task_groups)} tasks, but there are {len(self.tasks)} "
                f"({named_tasks}). Give one group for each, or leave it empty."
            )

    def use_tasks(self, model: torch.nn.Module, tasks: Tensor | None) -> None:
        """Name the rows' tasks; they stay, as gradient checkpointing asks for them again in backward."""
        choose_heads(model, tasks)
