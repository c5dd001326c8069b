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

from hydralora.errors import TrainingError
from hydralora.options import SplitOptions
from hydralora.training.mixin import ReadsTasks
from hydralora.tuner.gates import choose_heads
from hydralora.tuner.routed import RoutedLayer


class SplitsByTask(ReadsTasks):
    """Before a Trainer: every pass is told the head of each row, the number of its ``task``; -1 is no head's.

    Raises:
        TrainingError: When there are not as many heads as tasks.
    """

    takes = SplitOptions
    unused = frozenset({"packing"})  # a row has one head

    def __init__(self, model: Any, args: Any, *more: Any, **named: Any) -> None:
        super().__init__(model, args, *more, **named)
        for layer in self.model.modules():  # type: ignore[attr-defined]
            for heads in layer.num_experts.values() if isinstance(layer, RoutedLayer) else ():
                self._check_heads(heads)

    def _check_heads(self, heads: int) -> None:
        if heads != len(self.tasks):
            raise TrainingError(
                f"Hard LoRA-Split needs one head for each of the {len(self.tasks)} tasks "
                f"({', '.join(self.tasks[:8])}), but `num_experts` is {heads}. Set it to {len(self.tasks)}, or choose "
                "another k."
            )

    def use_tasks(self, model: torch.nn.Module, tasks: Tensor | None) -> None:
        """Choose the rows' heads; the choice stays, as gradient checkpointing asks for it again in backward."""
        choose_heads(model, tasks)
