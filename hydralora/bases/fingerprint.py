"""Which weights a base has, in sixteen hex digits: an adapter is put on those it was made for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST = 64  # values of a weight that are looked at


@dataclass(frozen=True)
class Fingerprint:
    """Sixteen hex digits that change with architecture or weights, and not with float32 or bfloat16.

    Args:
        now: What is kept beside an adapter.
        earlier: What earlier versions kept, which did change with the type of the weights.
    """

    now: str
    earlier: str

    def fits(self, known: str | None) -> bool:
        """Whether an adapter that was made for ``known`` fits; None fits, for nothing is known."""
        return known in (None, self.now, self.earlier)


def fingerprint(model: nn.Module) -> Fingerprint:
    """SHA-256 over every weight's name and shape, and the first 64 values of each, rounded to bfloat16."""
    return Fingerprint(_digest(model, lambda values: values.bfloat16()), _digest(model, lambda values: values))


def _digest(model: nn.Module, rounded: Callable[[Tensor], Tensor]) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        if weight.is_floating_point():
            values = rounded(weight.flatten()[:FIRST]).to("cpu", torch.float32)
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]
