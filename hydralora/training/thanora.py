"""ThanoRA: one LoRA whose rank is shared out among tasks, layer by layer, without a router.

The rows of A and columns of B are cut into one block per task and a cooperative block:
``y = W0 x + s (sum_t B_t A_t + B_c A_c) x``. Every input passes all blocks, so the result is a
plain LoRA that merges exactly; tasks matter only for the start and for the loss.

- How much rank: singular values of the inputs of a layer on a task, ``X`` ``(tokens, in)``, or of the weight weighted
  by their covariance, ``W0 X^T X / tokens`` ``(out, in)`` (``directions``), give ``p = sigma^2 / sum`` or, without the
  square (``spectrum``), ``sigma / sum``, and the complexity ``H = entropy(p) / log(len p)``; the rank left after the
  cooperative block ``floor(r / (T + 1))`` is shared out by ``softmax(sharpness * H)``, at least one each.
- Where it starts: the rows of ``A_t`` are the leading right singular vectors of the task, of the length
  that kaiming rows have; B is zero, so the start is the base and W0 stays untouched.
- What keeps blocks apart: ``weight * mean over layers of
  sum_{i<j} (||A_i A_j^T||^2 + ||B_i^T B_j||^2)`` with rows and columns of length one.

Source: Liang et al. 2025, https://arxiv.org/abs/2505.18640 (no code was released). Ours: squared singular values of the
inputs unless the options say otherwise, zero B instead of a changed W0, normalised blocks.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor

from hydralora.corpus.batches import on_device
from hydralora.errors import TrainingError
from hydralora.files import write_json
from hydralora.options import BlockOptions
from hydralora.training.auxiliary import AddsAuxiliaryLoss
from hydralora.training.mixin import TASK, ReadsTasks

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


def entropy_of(values: Tensor, spectrum: str = "sigma squared") -> float:
    """Normalised entropy of singular values ``(k,)`` or of their squares, in [0, 1]."""
    p = values.double() if spectrum == "sigma" else values.double().square()
    p = p / p.sum().clamp(min=1e-30)
    return float(-(p * p.clamp(min=1e-30).log()).sum() / math.log(max(2, len(p))))


def spectrum_of(inputs: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Singular values ``(k,)`` and right singular vectors ``(k, in)``, the largest first.

    Args:
        inputs: ``X`` ``(tokens, in)``.
        weight: ``W0`` ``(out, in)``, to take those of ``W0 X^T X / tokens``; None takes those of ``X``.
    """
    if weight is None:
        _, values, right = torch.linalg.svd(inputs, full_matrices=False)
        return values, right
    basis, rest = torch.linalg.qr(inputs.T)  # X^T = Q R: few tokens make few directions, whatever the width
    narrow = weight.to(inputs) @ inputs.T @ rest.T / len(inputs)  # W0 X^T X / tokens = narrow Q^T
    _, values, right = torch.linalg.svd(narrow, full_matrices=False)
    return values, right @ basis.T


class SharesRank(ReadsTasks, AddsAuxiliaryLoss):
    """Before a Trainer: plain LoRA training after a look at the tasks, with the loss that keeps their blocks apart.

    ``begin`` looks at the tasks and sets the start; ``train`` calls it where nobody has.
    """

    takes = BlockOptions
    tells_rows_apart = False  # tasks are looked at before the first step only
    blocks: dict[str, list[int]] | None = None  # ranks of each layer's blocks, the cooperative one last

    def begin(self, resumed: bool = False) -> None:
        """Set ranks and starting directions; a run that goes on takes its ranks again and keeps its weights."""
        path = Path(self.args.output_dir) / BLOCKS  # type: ignore[attr-defined]
        if resumed and path.exists():
            self.blocks = json.loads(path.read_text("utf-8"))
            return
        self.blocks = self._look(sets_start=not resumed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.blocks)

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """The Trainer's training, after ``begin``."""
        if self.blocks is None:
            self.begin(resumed=bool(resume_from_checkpoint))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)  # type: ignore[misc]

    def layers(self) -> dict[str, LoraLayer]:
        """Every adapted layer by name."""
        model: Any = self.model  # type: ignore[attr-defined]
        return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}

    @torch.no_grad()
    def _look(self, sets_start: bool) -> dict[str, list[int]]:
        count = len(self.tasks)
        inputs = [self._inputs(task) for task in range(count)]
        blocks = {}
        for name, layer in self.layers().items():
            weight = _weight(layer) if self.options.directions == "weighted" else None
            found = [spectrum_of(inputs[task][name], weight) for task in range(count)]
            complexity = [entropy_of(values, self.options.spectrum) for values, _ in found]
            a = layer.lora_A[self.adapter].weight
            blocks[name] = share_out(a.shape[0], complexity, self.options.sharpness)
            if sets_start:
                _point(a, [right for _, right in found], blocks[name])
        return blocks

    @property
    def adapter(self) -> str:
        """Name of the adapter that is trained."""
        return str(self.model.active_adapter)  # type: ignore[attr-defined]

    def _inputs(self, task: int) -> dict[str, Tensor]:
        """Up to ``SAMPLED`` inputs ``(tokens, in)`` of every adapted layer on one task."""
        model: Any = self.model  # type: ignore[attr-defined]
        batch, mask = self._preview(task)
        generator = torch.Generator().manual_seed(self.args.seed + task)  # type: ignore[attr-defined]
        picks = torch.randperm(int(mask.sum()), generator=generator)[:SAMPLED].to(mask.device)
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
                kept[name] = args[0][mask][picks].float().cpu()

            return hook

        handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in self.layers().items()]
        try:
            with model.disable_adapter():
                model.eval()
                model(**batch)
        finally:
            for handle in handles:
                handle.remove()
        return kept

    def _preview(self, task: int) -> tuple[dict[str, Tensor], Tensor]:
        """What the model is given of the first examples of a task, and which tokens ``(batch, tokens)`` are real."""
        places = [place for place, group in enumerate(self.groups) if group == task][:PREVIEW]
        data: Any = self.train_dataset  # type: ignore[attr-defined]
        collate = self._get_collator_with_removed_columns(self.data_collator)  # type: ignore[attr-defined]
        batch = on_device(collate([data[place] for place in places]), self.args.device)  # type: ignore[attr-defined]
        batch.pop(TASK, None)
        batch.pop("labels", None)
        if "position_ids" not in batch:
            return batch, batch["attention_mask"].bool()
        mask = batch.pop("attention_mask", None)  # packed: a mask would hide where each example begins
        return batch, torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()

    def auxiliary_loss(self, model: torch.nn.Module) -> Tensor | None:
        """How far the task blocks overlap, times the weight."""
        if not self.options.orthogonality_weight or not self.blocks:
            return None
        losses = []
        for name, layer in self.layers().items():
            sizes = self.blocks[name]
            own = sum(sizes[:-1])  # the cooperative block may overlap with all
            # A (own, in), B (out, own) and their Gram matrices (own, own)
            a = torch.nn.functional.normalize(layer.lora_A[self.adapter].weight[:own], dim=1, eps=1e-8)
            b = torch.nn.functional.normalize(layer.lora_B[self.adapter].weight[:, :own], dim=0, eps=1e-8)
            task = torch.repeat_interleave(torch.arange(len(sizes) - 1), torch.tensor(sizes[:-1])).to(a.device)
            apart = (task[:, None] != task[None, :]).to(a)  # (own, own), 1 where the tasks differ
            losses.append((((a @ a.T) ** 2 + (b.T @ b) ** 2) * apart).sum() / 2)
        overlap: Tensor = self.options.orthogonality_weight * torch.stack(losses).mean()
        return overlap


def _weight(layer: LoraLayer) -> Tensor:
    """``W0`` ``(out, in)`` on the CPU."""
    weight: Tensor = dequantize_module_weight(layer.get_base_layer())
    return (weight.T if getattr(layer, "fan_in_fan_out", False) else weight).float().cpu()


def _point(a: Tensor, directions: list[Tensor], ranks: list[int]) -> None:
    """Let the rows of each task's block of A ``(r, in)`` begin along its leading directions ``(k, in)``."""
    row = 0
    for right, rank in zip(directions, ranks[:-1], strict=True):
        chosen = right[:rank]
        # Kaiming-uniform rows (a = sqrt 5) have length 1 / sqrt 3 on average.
        a[row : row + len(chosen)] = (chosen / math.sqrt(3.0)).to(a)
        row += rank
