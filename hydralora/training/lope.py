"""LoPE: one head is fed with noise first, so that the others need not learn it.

Stage I trains only A and the poisoning head B_D (the last one) on noised data; stage II trains A,
the other heads and the router on the clean data while B_D takes part but stays as it is. At
inference B_D is silent and its gate goes to the K heads most like it (``head_mask``, ``head_compensation``):
``w_i = g_i + beta g_D softmax_{i of K}(cos(B_i A x, B_D A x))``; K = 0 is plain masking.

Noise (HyNoIse) at ratio ``noise``: in the text of the prompt shuffled words, inserted characters
and deleted characters in equal shares (``add_noised``, before rows are encoded); on the embeddings
``E + noise * rms(E) * U(-1, 1)``, padding left alone.

Source: Ye et al. 2025, https://arxiv.org/abs/2505.23868 (no code was released; the displayed formula
of the compensation was lost). Ours: the ratio on embeddings is relative to their root mean
square; the optimizer's memory is cleared between the stages; how gates are compensated.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback

from hydralora.errors import TrainingError
from hydralora.options import PoisonOptions
from hydralora.training.mixin import TrainsMethod

NOISED = "noised"  # the column: 0 for a clean row, 1 for a twin; and the key of the twins in a batch


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


def add_noised(rows: Iterable[dict[str, Any]], ratio: float, seed: int = 0) -> list[dict[str, Any]]:
    """The rows and, after them, their twins with noise in what is asked; the column ``noised`` tells them apart.

    Noise is put on a ``prompt`` that is text and on what users say in ``prompt`` or ``messages``; answers stay, and
    other rows are noised on their embeddings alone. The same twins come out for the same seed.
    """
    clean = [{**row, NOISED: 0} for row in rows]
    return clean + [_twin(row, ratio, random.Random(f"{seed}-{number}")) for number, row in enumerate(clean)]


def _twin(row: dict[str, Any], ratio: float, rng: random.Random) -> dict[str, Any]:
    twin = {**row, NOISED: 1}
    for name in ("prompt", "messages"):
        given = row.get(name)
        if isinstance(given, str):
            twin[name] = noise_text(given, ratio, rng) or given
        elif isinstance(given, list):
            twin[name] = [
                {**turn, "content": noise_text(turn["content"], ratio, rng) or turn["content"]}
                if turn["role"] == "user"
                else turn
                for turn in given
            ]
    return twin


class Twins(Dataset):  # type: ignore[type-arg]
    """Clean rows, each with its noised twin under ``noised``."""

    def __init__(self, data: Any, clean: Sequence[int], twins: Sequence[int]) -> None:
        self.data, self.clean, self.twins = data, clean, twins

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {**self.data[self.clean[place]], NOISED: self.data[self.twins[place]]}


class TwinCollator:
    """Another collator's batches, with the batch of the twins under ``noised``."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        clean = [{name: value for name, value in row.items() if name != NOISED} for row in examples]
        batch: dict[str, Any] = self.inner(clean)
        if isinstance(examples[0].get(NOISED), dict):
            twins = [{name: row[NOISED][name] for name in kept} for row, kept in zip(examples, clean, strict=True)]
            batch[NOISED] = dict(self.inner(twins))
        return batch


class PoisonsFirst(TrainsMethod):
    """Before a Trainer: two stages by step number, so that a resumed run is in the right one.

    The training data holds clean rows and their noised twins in the same order, as ``add_noised`` makes them.

    Raises:
        TrainingError: When there are not as many twins as clean rows.
    """

    takes = PoisonOptions
    columns = (NOISED,)
    unused = frozenset({"packing"})  # noise is put on single examples
    _mask: Tensor | None = None

    def wrap(self, collator: Any) -> Any:
        """Lay each twin beside its clean row; watch the embeddings and the optimizer."""
        marks = self.find_column(NOISED)
        places = [[place for place, mark in enumerate(marks) if bool(mark) == kind] for kind in (False, True)]
        if len(places[0]) != len(places[1]):
            raise TrainingError(
                f"The training data has {len(places[0]):,} clean rows and {len(places[1]):,} noised ones, but each "
                f"clean row needs one twin. Make both with `add_noised`."
            )
        self.train_dataset = Twins(self.train_dataset, *places)  # type: ignore[has-type]
        self.model: Any
        self.model.get_input_embeddings().register_forward_hook(self._disturb)
        self.add_callback(Freeze(self))  # type: ignore[attr-defined]
        return TwinCollator(collator)

    @property
    def switch(self) -> int:
        """The first step, from 0, of stage II."""
        return int(self.options.stage_one * self.state.max_steps)  # type: ignore[attr-defined]

    @property
    def poisoning(self) -> bool:
        """Whether stage I is on."""
        return bool(self.state.global_step < self.switch)  # type: ignore[attr-defined]

    def _disturb(self, module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Embeddings ``(batch, tokens, width)`` with noise where the mask ``(batch, tokens)`` is one."""
        if self._mask is None or not self.model.training:
            return output
        spread = output.detach().float().square().mean().sqrt() * self.options.noise
        noise = (torch.rand_like(output, dtype=torch.float32) * 2 - 1) * spread
        return output + (noise * self._mask[..., None]).to(output.dtype)

    def training_step(self, model, inputs, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        """One step on the noised twins or on the clean rows; gradients of frozen parts are removed."""
        noised = inputs.pop(NOISED)
        if self.poisoning:
            inputs, num_items_in_batch = noised, None
            self._mask = inputs["attention_mask"].to(model.device)
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        finally:
            self._mask = None
        for weight, keep in self.frozen():
            if weight.grad is not None:
                weight.grad = None if keep is None else weight.grad * keep
        return loss

    def frozen(self) -> list[tuple[torch.nn.Parameter, Tensor | None]]:
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

    def __init__(self, trainer: PoisonsFirst) -> None:
        self.trainer = trainer
        self.kept: list[tuple[torch.nn.Parameter, Tensor | None, Tensor]] = []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):  # type: ignore[no-untyped-def]
        if state.global_step == self.trainer.switch and optimizer is not None:
            optimizer.state.clear()

    @torch.no_grad()
    def on_pre_optimizer_step(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        self.kept = [(weight, keep, weight.detach().clone()) for weight, keep in self.trainer.frozen()]

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        for weight, keep, before in self.kept:
            weight.copy_(before if keep is None else torch.where(keep.bool(), weight, before))
