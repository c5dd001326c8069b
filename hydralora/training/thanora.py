"""ThanoRA: one LoRA whose rank is shared out among tasks, layer by layer, without a router.

The rows of A and columns of B are cut into one block per task and a cooperative block:
``y = W0 x + s (sum_t B_t A_t + B_c A_c) x``. Every input passes all blocks, so the result is a
plain LoRA that merges exactly; tasks matter only for the start and for the loss.

- How much rank: singular values of the inputs of a layer on a task give ``p = sigma^2 / sum`` and
  the complexity ``H = entropy(p) / log(len p)``; the rank left after the cooperative block
  ``floor(r / (T + 1))`` is shared out by ``softmax(sharpness * H)``, at least one each.
- Where it starts: the rows of ``A_t`` are the leading input directions of the task, of the length
  that kaiming rows have; B is zero, so the start is the base and W0 stays untouched.
- What keeps blocks apart: ``weight * mean over layers of
  sum_{i<j} (||A_i A_j^T||^2 + ||B_i^T B_j||^2)`` with rows and columns of length one.

Source: Liang et al. 2025, https://arxiv.org/abs/2505.18640 (no code was released). Ours: inputs
instead of ``W0 C``, squared singular values, zero B instead of a changed W0, normalised blocks.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from hydralora.corpus.batches import Collator
from hydralora.errors import TrainingError
from hydralora.files import write_json
from hydralora.methods import BlockOptions
from hydralora.training.trainer import AdapterTrainer, Plan

PREVIEW = 64  # examples of each task that are looked at
SAMPLED = 256  # inputs of each layer and task that are kept
BLOCKS = "thanora.json"


def share_out(rank: int, complexity: list[float], sharpness: float) -> list[int]:
    """Ranks of the task blocks and, last, of the cooperative block; they add up to ``rank``.

    Largest remainders after ``softmax(sharpness * complexity)``; every task gets at least one.

    Raises:
        TrainingError: When the rank is smaller than the number of tasks plus one.
    """
    tasks = len(complexity)
    if rank < tasks + 1:
        raise TrainingError(
            f"`r` must be at least {tasks + 1} for {tasks} tasks and a shared block, got {rank}. "
            f"Raise it, or choose "
            "fewer clusters."
        )
    common = max(1, rank // (tasks + 1))
    spare = rank - common - tasks  # beyond one for each task
    shares = torch.softmax(sharpness * torch.tensor(complexity, dtype=torch.float64), 0) * spare
    ranks = [1 + int(share) for share in shares]
    order = sorted(range(tasks), key=lambda t: (-(float(shares[t]) % 1.0), t))
    for task in order[: rank - common - sum(ranks)]:
        ranks[task] += 1
    return [*ranks, common]


def entropy_of(values: Tensor) -> float:
    """Normalised entropy of squared singular values ``(k,)``, in [0, 1]."""
    p = values.double().square()
    p = p / p.sum().clamp(min=1e-30)
    return float(-(p * p.clamp(min=1e-30).log()).sum() / math.log(max(2, len(p))))


class ThanoraTrainer(AdapterTrainer):
    """Plain LoRA training after a look at the tasks, with the loss that keeps their blocks apart."""

    weight = 0.0
    blocks: dict[str, list[int]] | None = None

    def prepare(self, plan: Plan) -> None:
        """Set ranks and starting directions, or read them again when a run is resumed."""
        self.weight = plan.config.options_as(BlockOptions).orthogonality_weight
        path = plan.run_folder / BLOCKS
        if plan.resumed and path.exists():
            self.blocks = json.loads(path.read_text("utf-8"))
            return
        self.blocks = self._begin(plan)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.blocks)

    def layers(self) -> dict[str, LoraLayer]:
        """Every adapted layer by name."""
        return {name: module for name, module in self.model.named_modules() if isinstance(module, LoraLayer)}

    @torch.no_grad()
    def _begin(self, plan: Plan) -> dict[str, list[int]]:
        count = max(plan.groups or [0]) + 1
        inputs = [self._inputs(plan, task) for task in range(count)]
        blocks = {}
        for name, layer in self.layers().items():
            directions, complexity = [], []
            for task in range(count):
                _, values, right = torch.linalg.svd(inputs[task][name], full_matrices=False)
                directions.append(right)
                complexity.append(entropy_of(values))
            a = layer.lora_A["default"].weight
            ranks = share_out(a.shape[0], complexity, plan.config.options_as(BlockOptions).sharpness)
            row = 0
            for task, rank in enumerate(ranks[:-1]):
                chosen = directions[task][:rank]
                # Kaiming-uniform rows (a = sqrt 5) have length 1 / sqrt 3 on average.
                a[row : row + len(chosen)] = (chosen / math.sqrt(3.0)).to(a)
                row += rank
            blocks[name] = ranks
        return blocks

    def _inputs(self, plan: Plan, task: int) -> dict[str, Tensor]:
        """Up to ``SAMPLED`` inputs ``(tokens, in)`` of every adapted layer on one task."""
        rows = [row for row, group in zip(plan.rows, plan.groups or [], strict=True) if group == task][:PREVIEW]
        collate, kept = Collator(plan.tokenizer.pad_token_id), {}  # type: ignore[var-annotated]
        generator = torch.Generator().manual_seed(plan.config.train.seed + task)
        batch = {key: value.to(self.model.device) for key, value in collate(rows).items()}
        mask = batch["attention_mask"].bool()
        picks = torch.randperm(int(mask.sum()), generator=generator)[:SAMPLED].to(mask.device)

        def keep(name: str) -> Any:
            def hook(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
                kept[name] = args[0][mask][picks].float().cpu()

            return hook

        handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in self.layers().items()]
        try:
            with self.model.disable_adapter():
                self.model.eval()
                self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        finally:
            for handle in handles:
                handle.remove()
        return kept

    def auxiliary_loss(self, model: torch.nn.Module) -> Tensor | None:
        """How far the task blocks overlap, times the weight."""
        if not self.weight or not self.blocks:
            return None
        losses = []
        for name, layer in self.layers().items():
            sizes = self.blocks[name]
            own = sum(sizes[:-1])  # the cooperative block may overlap with all
            # A (own, in), B (out, own) and their Gram matrices (own, own)
            a = torch.nn.functional.normalize(layer.lora_A["default"].weight[:own], dim=1, eps=1e-8)
            b = torch.nn.functional.normalize(layer.lora_B["default"].weight[:, :own], dim=0, eps=1e-8)
            task = torch.repeat_interleave(torch.arange(len(sizes) - 1), torch.tensor(sizes[:-1])).to(a.device)
            apart = (task[:, None] != task[None, :]).to(a)  # (own, own), 1 where the tasks differ
            losses.append((((a @ a.T) ** 2 + (b.T @ b) ** 2) * apart).sum() / 2)
        return self.weight * torch.stack(losses).mean()
