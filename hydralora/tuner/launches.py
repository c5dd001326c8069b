"""Launching the Triton kernels of the routing. Imported only where Triton is installed."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from hydralora.tuner import kernels
from hydralora.tuner.routing import Plan

TILE = 4096  # numbers of one tile (tokens, N, r) that a program holds in registers
SOME_TOKENS = 1024  # up to here the products beside the frozen layer's are done in kernels: launches cost more than
# work. At 2,048 a layer alone is as fast either way, and a whole step of 32 layers on an H200 took 164 ms so, 154 not.
FEW_TOKENS = 4  # up to here the whole update is one kernel
HALVES = (torch.bfloat16, torch.float16)

_compiled: dict[tuple[Any, ...], Any] = {}


def _launch(
    kernel: Any,
    grid: tuple[int, int, int],
    tensors: tuple[Tensor, ...],
    numbers: tuple,
    constants: tuple,
    warps: int = 4,
) -> None:
    """Run ``kernel`` on the tensors' device; from the second time on without Triton's look at every argument.

    What Triton would look at is in the key (type, device, constants) or the same at each call (the numbers are not
    specialised on), but for the pointers: only those divisible by 16 take the short way.
    """
    first, places = tensors[0], 0
    for tensor in tensors:
        places |= tensor.data_ptr()
    device, arguments = first.get_device(), (*tensors, *numbers, *constants)
    key = (kernel.__name__, first.dtype, device, constants)
    known = _compiled.get(key) if places % 16 == 0 else None
    if known is not None and device == torch.cuda.current_device():
        known[grid](*arguments)
        return
    with torch.cuda.device(device) if device >= 0 else nullcontext():  # no device: Triton's interpreter
        made = kernel[grid](*arguments, num_warps=warps)
    if made is not None and places % 16 == 0:
        _compiled[key] = made


@cache
def _sizes(plan: Plan) -> tuple[int, int, int]:
    """Tokens of a tile, and N and r rounded up."""
    heads, rank = triton.next_power_of_2(plan.heads), triton.next_power_of_2(plan.rank)
    return max(1, min(128, TILE // (heads * rank))), heads, rank


def _or(wanted: Tensor | None, stand_in: Tensor) -> Tensor:
    """A kernel's argument where there may be none; the kernel does not look at what stands in."""
    return stand_in if wanted is None else wanted


def route(hidden: Tensor, plan: Plan, gates: Tensor | None, change: Tensor | None = None) -> Tensor:
    """``u = g (x) A x`` ``(tokens, N r)`` of ``h`` ``(tokens, rows + N)``; fills ``gates`` ``(tokens, N)``, float32."""
    tokens, (block, heads, rank) = hidden.shape[0], _sizes(plan)
    u = hidden.new_empty(tokens, plan.heads * plan.rank)
    tensors = hidden, u, _or(gates, u), _or(change, u)
    constants = plan.heads, plan.rank, plan.shared, gates is not None, change is not None, block, heads, rank
    _launch(kernels.route, (-(-tokens // block), 1, 1), tensors, (tokens,), constants)
    return u


def route_backward(hidden: Tensor, grad_u: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Gradient of ``h`` and ``s u``, from ``h`` and ``B^T dy`` ``(tokens, N r)``; see ``routing.gradients``."""
    tokens, (block, heads, rank) = hidden.shape[0], _sizes(plan)
    grad_hidden, scaled = torch.empty_like(hidden), torch.empty_like(grad_u)
    constants = plan.heads, plan.rank, plan.shared, block, heads, rank
    grid = (-(-tokens // block), 1, 1)
    _launch(kernels.route_backward, grid, (hidden, grad_u, grad_hidden, scaled), (tokens, plan.scale), constants)
    return grad_hidden, scaled


def backs(grad: Tensor, plan: Plan) -> bool:
    """Whether ``back_and_route`` takes this gradient and pays off: few tokens, N and r powers of two."""
    wide = plan.heads * plan.rank
    fits = 16 <= wide <= 128 and wide & (wide - 1) == 0 and plan.heads & (plan.heads - 1) == 0
    return fits and grad.dtype in HALVES and grad.shape[0] <= SOME_TOKENS and grad.is_contiguous()


def back_and_route(hidden: Tensor, grad: Tensor, b: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Gradient of ``h`` and ``s u`` from ``dy`` ``(tokens, out)`` and B."""
    tokens, out = grad.shape
    grad_hidden, scaled = torch.empty_like(hidden), hidden.new_empty(tokens, plan.heads * plan.rank)
    constants = out, plan.heads, plan.rank, plan.shared, 16, min(256, 2 * TILE // (plan.heads * plan.rank))
    tensors = grad, b, hidden, grad_hidden, scaled
    _launch(kernels.back_and_route, (-(-tokens // 16), 1, 1), tensors, (tokens, plan.scale), constants)
    return grad_hidden, scaled


def add_down(grad_x: Tensor, grad_hidden: Tensor, a: Tensor, router: Tensor, plan: Plan) -> None:
    """``dx += dh [A; W_g]``, ``dx`` ``(tokens, in)``, where ``projects`` holds."""
    tokens, width = grad_x.shape
    shape = 32, 256, max(16, triton.next_power_of_2(plan.rank + plan.heads))
    constants = width, plan.heads, plan.rank, *shape
    grid = (-(-tokens // 32), -(-width // 256), 1)
    _launch(kernels.add_down, grid, (grad_x, grad_hidden, a, router), (tokens,), constants)


def projects(x: Tensor, plan: Plan) -> bool:
    """Whether ``project_and_route`` takes this input and pays off: few tokens of two bytes a number, one shared A."""
    fits = plan.shared and plan.router_input == "x" and plan.heads <= 16 and plan.rank + plan.heads <= 64
    return fits and x.dtype in HALVES and x.shape[0] <= SOME_TOKENS


def project_and_route(
    x: Tensor, a: Tensor, router: Tensor, plan: Plan, gates: Tensor | None, change: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``h`` ``(tokens, r + N)`` and ``u`` ``(tokens, N r)`` of ``x`` ``(tokens, in)``, ``A`` and ``W_g``."""
    (tokens, width), columns = x.shape, plan.rank + plan.heads
    hidden, u = x.new_empty(tokens, columns), x.new_empty(tokens, plan.heads * plan.rank)
    tensors = x, a, router, hidden, u, _or(gates, u), _or(change, u)
    wide = max(16, triton.next_power_of_2(columns))
    shape = 16, TILE // wide, wide
    constants = width, plan.heads, plan.rank, gates is not None, change is not None, *shape
    _launch(kernels.project_and_route, (-(-tokens // 16), 1, 1), tensors, (tokens,), constants)
    return hidden, u


def updates(x: Tensor, plan: Plan) -> bool:
    """Whether ``whole_update`` takes this input and pays off: a few tokens, one narrow shared A."""
    fits = plan.shared and plan.router_input == "x" and plan.rank + plan.heads <= 32
    return fits and x.shape[0] <= FEW_TOKENS and plan.heads * plan.rank <= 256


def whole_update(
    y: Tensor,
    x: Tensor,
    a: Tensor,
    router: Tensor,
    b: Tensor,
    plan: Plan,
    gates: Tensor | None,
    change: Tensor | None = None,
) -> None:
    """Add ``s B u`` to ``y`` ``(tokens, out)`` in one launch, where nothing is kept for a backward pass."""
    (tokens, width), out = x.shape, y.shape[1]
    columns, wide = triton.next_power_of_2(plan.rank + plan.heads), triton.next_power_of_2(plan.heads * plan.rank)
    block = max(16, min(128, TILE // wide))
    tensors = y, x, a, router, b, _or(gates, y), _or(change, y)
    shape = block, TILE * (2 if x.dtype in HALVES else 1) // columns, columns, wide
    constants = out, width, plan.heads, plan.rank, gates is not None, change is not None, *shape
    _launch(kernels.whole_update, (-(-out // block), tokens, 1), tensors, (plan.scale,), constants, warps=8)
