"""How a router's logits become gate weights; a configuration chooses one by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Gate = Callable[[Tensor], Tensor]


def softmax_gate(logits: Tensor) -> Tensor:
    """``g = softmax(logits)`` ``(..., N)``, in float32 or wider (Tian et al. 2024, eq. 4)."""
    return functional.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


# Each maps ``(..., N)`` to ``(..., N)``, not negative and summing to one over the heads, and has a gradient.
GATES: dict[str, Gate] = {"softmax": softmax_gate}
