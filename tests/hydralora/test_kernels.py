"""The Triton kernels equal torch's operations at odd sizes: on a GPU, or by Triton's interpreter on the CPU."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from hydralora.tuner import routing
from hydralora.tuner.routing import Plan
from tests.hydralora.conftest import DEVICE

if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are defined
pytest.importorskip("triton", reason="Triton is not installed, so its kernels cannot run")
launches = pytest.importorskip("hydralora.tuner.launches")

SIZES = [(1, 1), (2, 3), (3, 5), (4, 8), (5, 64), (16, 1), (13, 33)]  # N, r
TOKENS = [1, 131]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal to some roundings of the largest value."""
    limit = (1e-5 if dtype == torch.float32 else 2e-2) * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


def empty_gates(tokens: int, heads: int) -> Tensor:
    return torch.full((tokens, heads), torch.nan, device=DEVICE)


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
        gates, expected = empty_gates(tokens, heads), empty_gates(tokens, heads)
        close(launches.route(hidden, plan, gates), routing.mix(hidden, plan, expected), dtype)
        close(gates, expected, dtype)
        for ours, theirs in zip(
            launches.route_backward(hidden, grad_u, plan), routing._gradients(hidden, grad_u, plan), strict=True
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
        gates, expected = empty_gates(tokens, heads), empty_gates(tokens, heads)
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
    gates, expected = empty_gates(3, heads), empty_gates(3, heads)
    u = routing.mix(routing.project(x, a, router, plan), plan, expected)
    wanted = torch.addmm(y, u, b.t(), alpha=plan.scale)
    launches.whole_update(y, x, a, router, b, plan, gates)
    close(y, wanted, dtype)
    close(gates, expected, dtype)


@pytest.mark.parametrize("shared", [True, False], ids=["one A", "an A each"])
@pytest.mark.parametrize(("heads", "rank"), [(2, 8), (4, 8), (16, 1), (1, 16)])
def test_the_gradient_from_the_output_in_one_kernel_equals_torch(heads: int, rank: int, shared: bool) -> None:
    plan, out = make_plan(heads, rank, shared), 300
    b = random(out, heads * rank, dtype=torch.float16, seed=4)
    for tokens in (1, 17):
        hidden = random(tokens, plan.rows + heads, dtype=torch.float16)
        grad = random(tokens, out, dtype=torch.float16, seed=1).mul(0.1)
        assert launches.backs(grad, plan)
        expected = routing._gradients(hidden, grad @ b, plan)
        for ours, theirs in zip(launches.back_and_route(hidden, grad, b, plan), expected, strict=True):
            close(ours, theirs, torch.float16)


@pytest.mark.parametrize(("heads", "rank"), SIZES)
def test_the_inputs_gradient_in_one_kernel_equals_torch(heads: int, rank: int) -> None:
    plan, width = make_plan(heads, rank), 300
    a, router = weights(plan, width, torch.float16)
    for tokens in (1, 37):
        narrow, grad_x = random(tokens, rank + heads, dtype=torch.float16), random(tokens, width, dtype=torch.float16)
        expected = grad_x + routing.through_down(narrow, a, router, plan)
        launches.add_down(grad_x, narrow, a, router, plan)
        close(grad_x, expected, torch.float16)


def test_a_gradient_that_one_kernel_cannot_take_is_left_to_two() -> None:
    grad = random(5, 300, dtype=torch.bfloat16)
    assert not launches.backs(grad, make_plan(3, 8)) and not launches.backs(grad, make_plan(2, 4))
    assert not launches.backs(grad.float(), make_plan(4, 8)) and not launches.backs(
        grad.t().contiguous().t(), make_plan(4, 8)
    )
