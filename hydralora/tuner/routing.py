"""Gates, the gated narrow product and their gradients: torch operations, or one Triton kernel each on a GPU."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)
KERNEL_TYPES = (torch.bfloat16, torch.float16, torch.float32)
OLDEST = (8, 0)  # compute capability that the kernels are made for
MOST_HEADS, MOST_WIDE = 64, 1024  # N and N r that one tile of a kernel holds


class Plan(NamedTuple):
    """What one adapter of one layer computes, apart from its weights."""

    heads: int  # N
    rank: int  # r
    shared: bool  # one A of r rows, or N A's below each other
    router_input: str  # "x" or "Ax"; "" where every gate is `share`
    share: float  # gate of every head without a router
    scale: float  # s

    @property
    def rows(self) -> int:
        """Rows of A."""
        return self.rank if self.shared else self.heads * self.rank


def update(
    y: Tensor,
    x: Tensor,
    a: Tensor,
    router: Tensor | None,
    b: Tensor,
    plan: Plan,
    gates: Tensor | None,
    change: Tensor | None,
    keep: bool,
) -> Tensor | None:
    """Add ``s B u`` to ``y`` ``(tokens, out)`` and fill ``gates``.

    Returns ``h = [A x | logits]`` ``(tokens, rows + N)``, which may be None unless ``keep``.
    """
    kernels = kernels_for(x, plan)
    if kernels is None:
        hidden = project(x, a, router, plan)
        u = mix(hidden, plan, gates, change)
    elif not keep and kernels.updates(x, plan):
        kernels.whole_update(y, x, a, router, b, plan, gates, change)
        return None
    elif kernels.projects(x, plan):
        hidden, u = kernels.project_and_route(x, a, router, plan, gates, change)
    else:
        hidden = project(x, a, router, plan)
        u = kernels.route(hidden, plan, gates, change)
    y.addmm_(u, b.t(), alpha=plan.scale)
    return hidden


def project(x: Tensor, a: Tensor, router: Tensor | None, plan: Plan) -> Tensor:
    """``h = [A x | logits]`` ``(tokens, rows + N)``, one product where the router reads ``x``; ``A x`` without."""
    if plan.router_input == "x":
        return x @ torch.cat((a, router)).t()  # type: ignore[arg-type]
    hidden = x @ a.t()
    return torch.cat((hidden, hidden @ router.t()), -1) if plan.router_input else hidden  # type: ignore[union-attr]


def mix(hidden: Tensor, plan: Plan, gates: Tensor | None = None, change: Tensor | None = None) -> Tensor:
    """``u = g (x) A x`` ``(tokens, N r)`` of ``h``, and ``gates`` ``(tokens, N)`` filled where given.

    ``change`` ``(2, N)`` holds what each gate is multiplied with, and what is added then.
    """
    columns, low = _columns(hidden, plan)
    if not plan.router_input:
        return (low * plan.share).expand(plan.heads, plan.rank, -1).reshape(plan.heads * plan.rank, len(hidden)).t()
    shares = softmax(columns, plan)
    if change is not None:
        shares = shares * change[0].unsqueeze(-1) + change[1].unsqueeze(-1)
    if gates is not None:
        gates.copy_(shares.t())
    return (shares.to(hidden.dtype).unsqueeze(1) * low).flatten(0, 1).t()


def _columns(hidden: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """``h`` as ``(rows + N, tokens)``, and its ``A x`` as ``(1 or N, r, tokens)``.

    Tokens are last since N and r are too few to fill a CPU's vectors: ten times as fast at N = 4.
    """
    columns = hidden.t().contiguous()
    return columns, columns[: plan.rows].unflatten(0, (1 if plan.shared else plan.heads, plan.rank))


def softmax(columns: Tensor, plan: Plan) -> Tensor:
    """Gates ``(N, tokens)`` in float32, or float64 where ``h`` is."""
    return columns[plan.rows :].softmax(0, dtype=torch.promote_types(columns.dtype, torch.float32))


def gradients(hidden: Tensor, grad: Tensor, b: Tensor, router: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """Gradient of ``h`` ``(tokens, rows + N)`` from that of the output ``(tokens, out)``, and ``s u``, computed again.

    With ``v_i = B_i^T dy``: ``d(Ax) = s sum_i g_i v_i``, ``dg_i = s v_i . Ax`` and
    ``dlogits_i = g_i (dg_i - sum_j g_j dg_j)``.
    """
    kernels = kernels_for(hidden, plan)
    if kernels is None:
        narrow, scaled = _gradients(hidden, grad @ b, plan)
    elif kernels.backs(grad, plan):
        narrow, scaled = kernels.back_and_route(hidden, grad, b, plan)
    else:
        narrow, scaled = kernels.route_backward(hidden, grad @ b, plan)
    if plan.router_input == "Ax":
        narrow[:, : plan.rows].addmm_(narrow[:, plan.rows :], router)  # the router read A x
    return narrow, scaled


def add_down(grad_x: Tensor, narrow: Tensor, a: Tensor, router: Tensor | None, plan: Plan) -> Tensor:
    """``dx`` ``(tokens, in)`` plus what comes back through ``A`` and a router that read ``x``."""
    kernels = kernels_for(narrow, plan)
    if kernels is not None and kernels.projects(grad_x, plan):
        kernels.add_down(grad_x, narrow, a, router, plan)
        return grad_x
    return grad_x.addmm_(*_down(narrow, a, router, plan))


def through_down(narrow: Tensor, a: Tensor, router: Tensor | None, plan: Plan) -> Tensor:
    """What ``add_down`` adds, alone."""
    narrow, down = _down(narrow, a, router, plan)
    return narrow @ down


def _down(narrow: Tensor, a: Tensor, router: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """The gradient of what was multiplied with ``x``, and the matrix it was multiplied with."""
    if plan.router_input == "x":
        return narrow, torch.cat((a, router))  # type: ignore[arg-type]
    return narrow[:, : plan.rows], a


def _gradients(hidden: Tensor, grad_u: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    columns, low = _columns(hidden, plan)
    by_head = grad_u.t().reshape(plan.heads, plan.rank, len(hidden))  # (N, r, tokens)
    if not plan.router_input:
        from_heads = by_head.sum(0) if plan.shared else by_head.flatten(0, 1)
        scaled = (low * (plan.share * plan.scale)).expand_as(by_head).flatten(0, 1)
        return (from_heads * (plan.share * plan.scale)).t(), scaled.t()
    shares = softmax(columns, plan)  # (N, tokens)
    gates = shares.to(hidden.dtype).unsqueeze(1)
    narrow = torch.empty_like(columns)
    weighted = gates * by_head * plan.scale
    narrow[: plan.rows] = weighted.sum(0) if plan.shared else weighted.flatten(0, 1)
    grad_gates = (by_head * low).sum(1, dtype=shares.dtype) * plan.scale
    narrow[plan.rows :] = shares * (grad_gates - (shares * grad_gates).sum(0))
    return narrow.t(), (gates * low * plan.scale).flatten(0, 1).t()


def kernels_for(tensor: Tensor, plan: Plan) -> ModuleType | None:
    """The Triton kernels where they can be used here, else None."""
    if not tensor.is_cuda or not plan.router_input or tensor.dtype not in KERNEL_TYPES or not tensor.shape[0]:
        return None
    if plan.heads > MOST_HEADS or plan.heads * plan.rank > MOST_WIDE:
        return None
    return _working_kernels(tensor.device.index)


@cache
def _working_kernels(device: int) -> ModuleType | None:
    """The kernels after one has run on this GPU; a machine may lack Triton, or the compiler that Triton calls."""
    if torch.version.hip or torch.cuda.get_device_capability(device) < OLDEST:
        return None  # too little fast memory for their tiles
    try:
        from hydralora.tuner import launches

        probe = torch.zeros(1, 3, device=f"cuda:{device}")
        launches.route(probe, Plan(2, 1, True, "x", 1.0, 1.0), None)
    except Exception as error:  # a broken installation fails in many ways; each leaves torch's operations
        log.warning("Routing takes torch's operations on GPU %s, which are slower: %r.", device, error)
        return None
    return launches
