"""The Triton kernels, run by Triton's interpreter on the CPU, equal torch's operations at odd sizes."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from hydralora.tuner import routing
from hydralora.tuner.routing import Plan

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are defined
pytest.importorskip("triton", reason="Triton is not installed, so its kernels cannot run")
launches = pytest.importorskip("hydralora.tuner.launches")

SIZES = [(1, 1), (2, 3), (3, 5), (4, 8), (5, 64), (16, 1), (13, 33)]  # N, r
TOKENS = [1, 131]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal to some roundings of the largest value."""
    limit = (1e-5 if dtype == torch.float32 else 2e-2) * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def make_plan(heads: int, rank: int, shared: bool = True) -> Plan:
    return Plan(heads, rank, shared, "x", 1.0, 1.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shared", [True, False], ids=["one A", "an A each"])
@pytest.mark.parametrize(("heads", "rank"), SIZES)
def test_routing_and_its_gradient_equal_torch(heads: int, rank: int, shared: bool, dtype: torch.dtype) -> None:
    plan = make_plan(heads, rank, shared)
    for tokens in TOKENS:
        hidden = random(tokens, plan.rows + heads, dtype=dtype)
        grad_u = random(tokens, heads * rank, dtype=dtype, seed=1)
        gates, expected = torch.full((tokens, heads), torch.nan), torch.empty(tokens, heads)
        close(launches.route(hidden, plan, gates), routing.mix(hidden, plan, expected), dtype)
        close(gates, expected, dtype)
        for ours, theirs in zip(
            launches.route_backward(hidden, grad_u, plan), routing.gradients(hidden, grad_u, None, plan), strict=True
        ):
            close(ours, theirs, dtype)


def weights(plan: Plan, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A ``(r, in)`` and router ``(N, in)``."""
    scale = width**-0.5
    return random(plan.rank, width, seed=2).mul(scale).to(dtype), random(plan.heads, width, seed=3).mul(scale).to(dtype)


# In float16: Triton's interpreter multiplies matrices of bfloat16 as if they were whole numbers.
@pytest.mark.parametrize(("heads", "rank"), SIZES)
def test_the_product_and_routing_in_one_kernel_equal_torch(heads: int, rank: int) -> None:
    plan, width = make_plan(heads, rank), 300
    a, router = weights(plan, width, torch.float16)
    for tokens in (1, 17):
        x = random(tokens, width, dtype=torch.float16)
        gates, expected = torch.full((tokens, heads), torch.nan), torch.empty(tokens, heads)
        hidden, u = launches.project_and_route(x, a, router, plan, gates)
        by_torch = routing.project(x, a, router, plan)
        close(hidden, by_torch, torch.float16)
        close(u, routing.mix(by_torch, plan, expected), torch.float16)
        close(gates, expected, torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("heads", "rank"), [(2, 3), (3, 5), (4, 8), (16, 7)])
def test_the_whole_update_in_one_kernel_equals_torch(heads: int, rank: int, dtype: torch.dtype) -> None:
    plan, width, out = make_plan(heads, rank), 600, 141
    a, router = weights(plan, width, dtype)
    b = random(out, heads * rank, dtype=dtype, seed=4)
    x, y = random(3, width, dtype=dtype), random(3, out, dtype=dtype, seed=5)
    gates, expected = torch.full((3, heads), torch.nan), torch.empty(3, heads)
    u = routing.mix(routing.project(x, a, router, plan), plan, expected)
    wanted = torch.addmm(y, u, b.t(), alpha=plan.scale)
    launches.whole_update(y, x, a, router, b, plan, gates)
    close(y, wanted, dtype)
    close(gates, expected, dtype)
