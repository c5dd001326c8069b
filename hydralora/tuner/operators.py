"""The fused layer as operators that ``torch.compile`` calls as they are.

Inductor would write the base product, read it again and write the sum; the fused layer adds into the product
where it lies. An operator is opaque to it, so compiled layers take the same kernels as eager ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hydralora.tuner import fused
from hydralora.tuner.routing import Plan


@torch.library.custom_op("hydralora::routed", mutates_args=())
def routed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    heads: int,
    rank: int,
    shared: bool,
    router_input: str,
    share: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output ``(..., out)`` and ``h`` ``(tokens, rows + N)`` of ``fused.compute``; the last six are a ``Plan``."""
    plan = Plan(heads, rank, shared, router_input, share, scale)
    y, hidden = fused.compute(x, None, weight, bias, a, router, b, plan, None, keep=True)
    return y, hidden  # type: ignore[return-value]


@routed.register_fake
def _(x, weight, bias, a, router, b, heads, rank, shared, router_input, share, scale):  # type: ignore[no-untyped-def]
    rows = x.numel() // x.shape[-1]
    columns = a.shape[0] + (heads if router_input else 0)
    return x.new_empty(*x.shape[:-1], weight.shape[0]), x.new_empty(rows, columns)


@torch.library.custom_op("hydralora::routed_once", mutates_args=())
def routed_once(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    heads: int,
    rank: int,
    shared: bool,
    router_input: str,
    share: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output ``(..., out)`` and gates ``(tokens, N)``, empty without a router, where no backward pass follows."""
    plan = Plan(heads, rank, shared, router_input, share, scale)
    tokens = x.numel() // x.shape[-1]
    gates = x.new_empty(tokens if router_input else 0, heads, dtype=torch.promote_types(x.dtype, torch.float32))
    y, _ = fused.compute(x, None, weight, bias, a, router, b, plan, gates if router_input else None, keep=False)
    return y, gates


@routed_once.register_fake
def _(x, weight, bias, a, router, b, heads, rank, shared, router_input, share, scale):  # type: ignore[no-untyped-def]
    tokens = x.numel() // x.shape[-1] if router_input else 0
    gates = x.new_empty(tokens, heads, dtype=torch.promote_types(x.dtype, torch.float32))
    return x.new_empty(*x.shape[:-1], weight.shape[0]), gates


@torch.library.custom_op("hydralora::routed_backward", mutates_args=())
def routed_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    hidden: Tensor,
    heads: int,
    rank: int,
    shared: bool,
    router_input: str,
    share: float,
    scale: float,
    to_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``x``, of the rows that met ``x`` below each other, of a router that read ``A x``, and of B."""
    plan = Plan(heads, rank, shared, router_input, share, scale)
    found = fused.gradients(grad, x, weight, a, router, b, hidden, plan, to_x=to_x)
    return tuple(x.new_empty(0) if part is None else part for part in found)  # type: ignore[return-value]


@routed_backward.register_fake
def _(grad, x, weight, a, router, b, hidden, heads, rank, shared, router_input, share, scale, to_x):  # type: ignore
    rows = a.shape[0] + (heads if router_input == "x" else 0)
    return (
        x.new_empty(x.shape) if to_x else x.new_empty(0),
        x.new_empty(rows, x.shape[-1]),
        x.new_empty(heads, a.shape[0]) if router_input == "Ax" else x.new_empty(0),
        b.new_empty(b.shape),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, a, router, b, *plan = inputs
    ctx.save_for_backward(x, weight, a, router, b, output[1])
    ctx.plan = plan


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, a, router, b, hidden = ctx.saved_tensors
    to_x = ctx.needs_input_grad[0]
    parts = routed_backward(grad, x, weight, a, router, b, hidden, *ctx.plan, to_x)
    router_input, many = ctx.plan[3], a.shape[0]
    to_router = {"x": parts[1][many:], "Ax": parts[2]}.get(router_input)
    return parts[0] if to_x else None, None, None, parts[1][:many], to_router, parts[3], *[None] * 6


routed.register_autograd(_backward, setup_context=_setup)
