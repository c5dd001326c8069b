"""How far one model is from another where it matters: next-token distributions at answer tokens."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hydralora.corpus.encode import IGNORED


@dataclass(frozen=True)
class Gap:
    """Mean loss and mean ``KL(live || other)`` per answer token, in nats; None without any token."""

    loss: float | None
    kl: float | None
    tokens: int
    examples: int


@torch.inference_mode()
def measure_gaps(live: Any, others: dict[str, Any], batches: list[dict[str, Tensor]]) -> tuple[Gap, dict[str, Gap]]:
    """Compare every other model with ``live`` on the answer tokens of ``batches``; ``live`` is 0 from itself."""
    loss, kl = dict.fromkeys(["", *others], 0.0), dict.fromkeys(["", *others], 0.0)
    tokens = examples = 0
    for batch in batches:
        keep = batch["labels"][:, 1:] != IGNORED
        wanted = batch["labels"][:, 1:][keep].unsqueeze(1)  # (answer tokens, 1)
        here = _log_probabilities(live, batch, keep)
        loss[""] -= float(here.gather(1, wanted).sum())
        for name, other in others.items():
            there = _log_probabilities(other, batch, keep)
            loss[name] -= float(there.gather(1, wanted).sum())
            kl[name] += float((here.exp() * (here - there)).sum())
        tokens, examples = tokens + len(wanted), examples + len(keep)

    def gap(name: str) -> Gap:
        # A divergence is never negative; rounding may make it so by 1e-16.
        return (
            Gap(loss[name] / tokens, max(0.0, kl[name] / tokens), tokens, examples) if tokens else Gap(None, None, 0, 0)
        )

    return gap(""), {name: gap(name) for name in others}


def _log_probabilities(model: Any, batch: dict[str, Tensor], keep: Tensor) -> Tensor:
    """Log-probabilities ``(answer tokens, vocabulary)`` in float64 where a label is predicted."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    return logits[keep].double().log_softmax(-1)


def share_weights(base: Any) -> Any:
    """A second model over the very same weights, so that two adapters can be compared in one memory."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    return copy.deepcopy(base, memo)
