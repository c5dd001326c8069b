"""LoPE: one head is fed with noise first, so that the others need not learn it.

Stage I trains only A and the poisoning head B_D (the last one) on noised data; stage II trains A,
the other heads and the router on the clean data while B_D takes part but stays as it is. At
inference B_D is silent and its gate goes to the other heads (``head_mask``, ``head_compensation``).

Noise (HyNoIse) at ratio ``noise``: in the text of the prompt shuffled words, inserted characters
and deleted characters in equal shares; on the embeddings ``E + noise * rms(E) * U(-1, 1)``,
padding left alone.

Source: Ye et al. 2025, https://arxiv.org/abs/2505.23868 (no code was released; the displayed formula
of the compensation was lost). Ours: the ratio on embeddings is relative to their root mean
square; the optimizer's memory is cleared between the stages; how gates are compensated.
"""

from __future__ import annotations

import random
import string
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from hydralora.corpus.batches import Collator
from hydralora.corpus.encode import encode_example
from hydralora.methods import PoisonOptions
from hydralora.training.trainer import AdapterTrainer, Plan


def noise_text(text: str, ratio: float, rng: random.Random) -> str:
    """About ``ratio`` of the words moved or of the characters added or deleted, one kind a text."""
    kind = rng.choice(("shuffle", "insert", "delete"))
    if kind == "shuffle":
        words = text.split(" ")
        for _ in range(max(1, round(ratio * len(words)))):
            i, j = rng.randrange(len(words)), rng.randrange(len(words))
            words[i], words[j] = words[j], words[i]
        return " ".join(words)
    characters = list(text)
    for _ in range(max(1, round(ratio * len(characters)))):
        place = rng.randrange(len(characters) + 1)
        if kind == "insert":
            characters.insert(place, rng.choice(string.ascii_lowercase + string.punctuation))
        elif characters:
            del characters[min(place, len(characters) - 1)]
    return "".join(characters)


class TwinCollator(Collator):
    """Clean rows and their noised twins in one batch: the twins under ``noised``."""

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        if "noised" not in examples[0]:
            return super().__call__(examples)
        clean: dict[str, Any] = super().__call__(examples)
        clean["noised"] = super().__call__([example["noised"] for example in examples])
        return clean


class LopeTrainer(AdapterTrainer):
    """Two stages by step number, so that a resumed run is in the right one."""

    unused = frozenset({"packing"})  # noise is put on single examples
    switch = 0
    noise = 0.05
    _mask: Tensor | None = None

    @classmethod
    def feed(cls, plan: Plan, arguments: TrainingArguments) -> tuple[Any, Any]:
        """Every row with a noised twin; the same twin for the same seed."""
        chosen, train = plan.config.options_as(PoisonOptions), plan.config.train
        rows = []
        for number, (row, example) in enumerate(zip(plan.rows, plan.examples, strict=True)):
            noised = None
            if example.prompt:  # plain text is noised on its embeddings alone
                rng = random.Random(f"{train.seed}-{number}")
                twin = replace(example, prompt=noise_text(example.prompt, chosen.noise, rng) or example.prompt)
                noised = encode_example(plan.tokenizer, twin, train.max_length, train.learn)
            rows.append({**row, "noised": noised or row})
        return rows, TwinCollator(plan.tokenizer.pad_token_id)

    def prepare(self, plan: Plan) -> None:
        """Decide where the stages meet, and watch the embeddings."""
        chosen = plan.config.options_as(PoisonOptions)
        self.switch, self.noise = int(chosen.stage_one * plan.config.train.max_steps), chosen.noise
        self.add_callback(Freeze(self))
        self.model.get_input_embeddings().register_forward_hook(self._disturb)

    @property
    def poisoning(self) -> bool:
        """Whether stage I is on."""
        return self.state.global_step < self.switch

    def _disturb(self, module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Embeddings ``(batch, tokens, width)`` with noise where the mask ``(batch, tokens)`` is one."""
        if self._mask is None or not self.model.training:
            return output
        spread = output.detach().float().square().mean().sqrt() * self.noise
        noise = (torch.rand_like(output, dtype=torch.float32) * 2 - 1) * spread
        return output + (noise * self._mask[..., None]).to(output.dtype)

    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """One step on the noised twins or on the clean rows; gradients of frozen parts are removed."""
        noised = inputs.pop("noised")
        if self.poisoning:
            inputs, num_items_in_batch = noised, None
            self._mask = inputs["attention_mask"].to(model.device)
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            self._mask = None
        for weight, keep in self.frozen(model):
            if weight.grad is not None:
                weight.grad = None if keep is None else weight.grad * keep
        return loss

    def frozen(self, model: torch.nn.Module) -> list[tuple[torch.nn.Parameter, Tensor | None]]:
        """Parameters that must not move now, with a mask ``(1, N r)`` of what may; None is nothing."""
        found: list[tuple[torch.nn.Parameter, Tensor | None]] = []
        for layer in self.model.base_model.routed_layers():
            for name, heads in layer.hydralora_B.items():
                rank = layer.r[name]
                keep = torch.full(
                    (1, heads.weight.shape[1]), 0.0 if self.poisoning else 1.0, device=heads.weight.device
                )
                keep[:, -rank:] = 1.0 if self.poisoning else 0.0
                found.append((heads.weight, keep))
            if self.poisoning:
                found += [(router.weight, None) for router in layer.hydralora_router.values()]
        return found


class Freeze(TrainerCallback):
    """Keeps frozen parts exactly as they are, and starts stage II with an empty optimizer memory."""

    def __init__(self, trainer: LopeTrainer) -> None:
        self.trainer = trainer
        self.kept: list[tuple[torch.nn.Parameter, Tensor | None, Tensor]] = []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):  # type: ignore[no-untyped-def]
        if state.global_step == self.trainer.switch and optimizer is not None:
            optimizer.state.clear()

    @torch.no_grad()
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
        self.kept = [(weight, keep, weight.detach().clone()) for weight, keep in self.trainer.frozen(model)]

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        for weight, keep, before in self.kept:
            weight.copy_(before if keep is None else torch.where(keep.bool(), weight, before))
