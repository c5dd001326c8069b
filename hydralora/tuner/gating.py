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


def uniform_gate(logits: Tensor) -> Tensor:
    """``g_i = 1 / N`` ``(..., N)``: a control, what heads are worth without a router. Layers make no router for it."""
    return torch.full_like(logits, 1.0 / logits.shape[-1], dtype=torch.promote_types(logits.dtype, torch.float32))


def keep_largest(logits: Tensor, count: int) -> Tensor:
    """``logits`` ``(..., N)`` with all but the ``count`` largest of each token at ``-inf``, so their gates are zero.

    ``KeepTopK`` of Shazeer et al. 2017, eq. 5 (https://arxiv.org/abs/1701.06538), without their noise.
    """
    kept = logits.topk(count, dim=-1)
    return torch.full_like(logits, float("-inf")).scatter(-1, kept.indices, kept.values)


# Each maps ``(..., N)`` to ``(..., N)``, not negative and summing to one over the heads, and has a gradient where there
# is something to learn; a logit of ``-inf`` becomes zero.
GATES: dict[str, Gate] = {"softmax": softmax_gate, "uniform": uniform_gate}
