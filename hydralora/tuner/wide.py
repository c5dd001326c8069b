"""Products of bfloat16 weights on processors without instructions for bfloat16: computed in float32, a piece at a time.

There torch multiplies bfloat16 matrices in plain loops: 256 tokens through a layer of 576 to 1,536 take 50 ms on one
core, and 5.6 ms where the weight is made float32 first (AMD EPYC without AVX-512; docs/performance.md). Pieces of the
weight stay in the cache, so that even an output layer of 49,152 tokens needs 4 MiB beside it. One token is read faster
as it lies, so short inputs take torch's own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NARROW = torch.bfloat16
PIECE = 2**20  # elements of a weight that are float32 at once
FEWEST_TOKENS = 4  # from which float32 is faster


@cache
def is_slow() -> bool:
    """Whether this processor multiplies bfloat16 matrices in plain loops."""
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def helps(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether products of ``x`` ``(..., in)`` that would be computed in ``dtype`` are faster here."""
    if x.device.type != "cpu" or dtype != NARROW or not is_slow():
        return False
    return not torch.compiler.is_compiling() and x.numel() >= FEWEST_TOKENS * x.shape[-1] > 0


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` ``(..., out)`` in the type of ``x``, whatever type the ``weight`` ``(out, in)`` has."""
    if x.dtype == weight.dtype:
        return functional.linear(x, weight, bias)
    y = x.new_empty(*x.shape[:-1], weight.shape[0])
    for begin, piece in _pieces(weight, x.dtype):
        y[..., begin : begin + len(piece)] = functional.linear(x, piece)
    return y if bias is None else y.add_(bias)


def times(grad: Tensor, weight: Tensor) -> Tensor:
    """``dy W`` ``(..., in)`` in the type of ``grad`` ``(..., out)``: the gradient of ``x``."""
    if grad.dtype == weight.dtype:
        return grad @ weight
    found: Tensor | None = None
    for begin, piece in _pieces(weight, grad.dtype):
        part = grad[..., begin : begin + len(piece)] @ piece
        found = part if found is None else found.add_(part)
    assert found is not None
    return found


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Products in the types of what is multiplied, where autocast is on."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _pieces(weight: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Rows of a ``weight`` in another type, with the number of the first."""
    rows = max(1, PIECE // weight.shape[1])
    for begin in range(0, weight.shape[0], rows):
        yield begin, weight[begin : begin + rows].to(dtype)


class WideLinear(nn.Linear):
    """A linear layer of a base in bfloat16, with its product in float32 where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        is_narrow = x.dtype == self.weight.dtype and helps(x, x.dtype)
        if not is_narrow or torch._C._are_functorch_transforms_active() or torch.jit.is_tracing():
            return super().forward(x)
        with without_autocast(x):
            found: Tensor = WideProduct.apply(x, self.weight, self.bias)
        return found


class WideProduct(torch.autograd.Function):
    """``x W^T + b`` whose passes are computed in float32; only bfloat16 is kept between them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        """Output ``(..., out)`` in bfloat16."""
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return linear(x.float(), weight, bias).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of ``x``, the weight and the bias, as far as they are wanted."""
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        flat = grad.float().reshape(-1, grad.shape[-1])
        with without_autocast(grad):
            grad_x = times(flat, weight).view(*grad.shape[:-1], -1).to(grad.dtype) if to_x else None
            grad_weight = (flat.t() @ x.reshape(-1, x.shape[-1]).float()).to(weight.dtype) if to_weight else None
        return grad_x, grad_weight, flat.sum(0).to(grad.dtype) if to_bias else None


def widen(model: nn.Module) -> None:
    """Let the linear layers of a model in bfloat16 compute so where that is faster; weights and names stay."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == NARROW and module.weight.device.type == "cpu":
            module.__class__ = WideLinear
