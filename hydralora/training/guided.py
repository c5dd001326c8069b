"""Routers that learn from the task of each example: supervised, or balanced by groups of tasks.

A loss of the layer asks for the tasks (``task_weight``, ``balance_loss`` groups); the loop names them for every batch.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from hydralora.errors import TrainingError
from hydralora.methods import TaskOptions
from hydralora.training.split import SplitTrainer
from hydralora.training.trainer import Plan


class GuidedTrainer(SplitTrainer):
    """The usual loop; where a loss asks for tasks, every batch names the task of each example."""

    unused = frozenset()  # packing is refused only where tasks are asked for

    @classmethod
    def feed(cls, plan: Plan, arguments: TrainingArguments) -> tuple[Any, Any]:
        """Rows that know their task, where one is asked for.

        Raises:
            TrainingError: When heads or groups do not suffice for the tasks, or rows are packed.
        """
        if plan.tasks is None:
            return super().feed(plan, arguments)
        options, tasks = plan.config.adapter, plan.tasks.names
        assert isinstance(options, TaskOptions)
        if plan.config.train.packing:
            raise TrainingError(
                "`packing` puts examples of several tasks into one row, and a loss of the router asks for the task of "
                "each row. Switch `packing` off, or set `task_weight` to 0 and `balance_loss` to square."
            )
        if options.task_weight and len(tasks) > options.experts:
            raise TrainingError(
                f"A supervised router needs a head for each of the {len(tasks)} tasks ({', '.join(tasks[:8])}), but "
                f"`num_experts` is {options.experts}. Set it to {len(tasks)} or more, or `task_weight` to 0."
            )
        if options.balances_groups and options.task_groups and len(options.task_groups) != len(tasks):
            raise TrainingError(
                f"`task_groups` names groups of {len(options.task_groups)} tasks, but there are {len(tasks)} "
                f"({', '.join(tasks[:8])}). Give one group for each, or leave it empty."
            )
        return cls.with_heads(plan)
