"""The fused layer: the torch form's numbers and gradients, the base layer's own output left alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hydralora import HydraLoraConfig
from hydralora.tuner import fused
from tests.hydralora.test_layer import OUT, RANK, WIDE, make_layer

KINDS: list[dict[str, Any]] = [
    {},
    {"router_input": "Ax"},
    {"shared_a": False},
    {"shared_a": False, "router_input": "Ax"},
    {"combine": "mean"},
    {"combine": "sum"},
    {"shared_a": False, "combine": "mean"},
    {"num_experts": 1},
    {"num_experts": 7},
    {"temperature": 0.5},
    {"temperature": 3.0, "router_input": "Ax"},
    {"gate": "uniform"},
]
SHAPES = [(12,), (5, 12), (2, 5, 12), (0, 5, 12)]


def is_fused(result: Tensor) -> bool:
    """Whether the one function made this output."""
    return type(result.grad_fn).__name__ == "RoutedLinearBackward"


def step(layer: Any, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of one pass with a loss that weighs every output differently."""
    layer.zero_grad()
    x = x.detach().requires_grad_(True)
    result = layer(x)
    (result * torch.arange(result.numel(), device=x.device).view_as(result).cos()).sum().backward()
    weights = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    return {"output": result.detach(), "input": x.grad, **{name: grad.clone() for name, grad in weights.items()}}


def by_torch(layer: Any, x: Tensor) -> dict[str, Tensor]:
    """The same by the layer's torch operations."""
    plans, layer.plans = layer.plans, dict.fromkeys(layer.plans)
    found = step(layer, x)
    layer.plans = plans
    return found


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], limit: float) -> None:
    """Equal to ``limit`` of the largest value of each."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        largest = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        torch.testing.assert_close(second[name], value, rtol=0, atol=limit * largest, msg=name)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_outputs_and_gradients_equal_those_of_torch(kind: dict[str, Any]) -> None:
    layer = make_layer(**kind).train()
    for shape in SHAPES:
        x = torch.randn(shape)
        assert is_fused(layer(x))
        assert_same(by_torch(layer, x), step(layer, x), 1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_bfloat16_differs_from_torch_by_its_rounding_only(kind: dict[str, Any]) -> None:
    layer, x = make_layer(**kind).to(torch.bfloat16), torch.randn(2, 5, WIDE, dtype=torch.bfloat16)
    assert is_fused(layer(x))
    assert_same(by_torch(layer, x), step(layer, x), 2e-2)


@pytest.mark.parametrize("twice", [False, True], ids=["gradient", "its own gradient"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", KINDS[:5], ids=str)
def test_gradients_are_those_of_finite_differences(kind: dict[str, Any], bias: bool, twice: bool) -> None:
    layer = make_layer(base=nn.Linear(WIDE, OUT, bias=bias), **kind).double()
    x = torch.randn(3, WIDE, dtype=torch.float64, requires_grad=True)
    weights = [weight for weight in layer.parameters() if weight.requires_grad]
    check = torch.autograd.gradgradcheck if twice else torch.autograd.gradcheck
    assert is_fused(layer(x)) and check(lambda x, *_: layer(x), (x, *weights))


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16], ids=["float32 base", "bfloat16 base"])
@pytest.mark.parametrize("kind", KINDS[:5], ids=str)
def test_autocast_differs_from_torch_by_its_rounding_only(kind: dict[str, Any], base: torch.dtype) -> None:
    layer, x = make_layer(**kind), torch.randn(2, 5, WIDE)
    layer.base_layer.to(base)
    with torch.autocast("cpu", torch.bfloat16):
        assert is_fused(layer(x)) and layer(x).dtype == torch.bfloat16
        found, expected = step(layer, x), by_torch(layer, x)
    assert found["hydralora_A.default.weight"].dtype == found["input"].dtype == torch.float32
    assert_same(expected, found, 2e-2)


def test_a_non_contiguous_input_and_gradient_are_taken() -> None:
    layer, x = make_layer(), torch.randn(WIDE, 5, 2).permute(2, 1, 0)
    assert_same(by_torch(layer, x), step(layer, x), 1e-6)
    layer(x.requires_grad_(True)).sum().backward()  # a gradient of one number, expanded


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    layer, x = make_layer(), torch.randn(4, WIDE)
    expected = by_torch(layer, x)
    layer.hydralora_A["default"].requires_grad_(False)
    layer.zero_grad()
    layer(x).backward(torch.arange(4 * OUT).view(4, OUT).cos())
    grads = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    assert len(grads) == 2
    assert_same({name: expected[name] for name in grads}, grads, 1e-6)


# The base layer is left alone


@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
def test_a_forward_hook_on_the_base_layer_sees_its_product_and_nothing_more(train: bool) -> None:
    layer, x, seen = make_layer(), torch.randn(2, 5, WIDE), []
    product = layer.base_layer(x).clone()
    handle = layer.base_layer.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.set_grad_enabled(train):
        result = layer(x)
    assert len(seen) == 1 and torch.equal(seen[0], product)  # also after the update was added
    handle.remove()
    torch.testing.assert_close(result, layer(x))


def test_what_a_hook_on_the_base_layer_gives_back_is_taken() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    plain, product = layer(x), layer.base_layer(x)
    layer.base_layer.register_forward_hook(lambda _, __, output: 3 * output)
    torch.testing.assert_close(layer(x), plain + 2 * product)


def test_backward_hooks_of_the_base_layer_run() -> None:
    layer, seen = make_layer(), []
    layer.base_layer.register_full_backward_hook(lambda _, to_input, to_output: seen.append(to_output[0]))
    given = torch.randn(5, OUT)
    layer(torch.randn(5, WIDE, requires_grad=True)).backward(given)
    assert torch.equal(seen[0], given)


def test_a_trained_base_layer_gets_its_gradients() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    layer.base_layer.requires_grad_(True)
    found = step(layer, x)
    assert "base_layer.weight" in found and "base_layer.bias" in found
    assert_same(by_torch(layer, x), found, 1e-6)


def test_hooks_on_the_matrices_of_the_adapter_run() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    layer.hydralora_A["default"].register_forward_hook(lambda _, __, output: 0 * output)
    torch.testing.assert_close(layer(x), layer.base_layer(x))


def test_a_weight_that_lies_otherwise_in_memory_goes_through_torch() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    expected, weight = layer(x), layer.hydralora_B["default"].weight
    weight.data = weight.data.t().contiguous().t()
    assert not is_fused(layer(x))
    torch.testing.assert_close(layer(x), expected)


# What it does not take


NOT_TAKEN: dict[str, tuple[dict[str, Any], Callable[[Any, Tensor], Tensor]]] = {
    "dropout in training": ({"lora_dropout": 0.5}, lambda layer, x: layer.train()(x)),
    "balance loss in training": ({"balance_weight": 1.0}, lambda layer, x: layer.train()(x)),
    "z-loss in training": ({"z_weight": 1.0}, lambda layer, x: layer.train()(x)),
    "a choice of heads": ({"top_k": 2}, lambda layer, x: layer(x)),
    "silent heads": ({"head_mask": [1]}, lambda layer, x: layer.eval()(x)),
    "a pooled router": ({"router_input": "pooled"}, lambda layer, x: layer(x)),
    "heads by task": ({"combine": "hard"}, lambda layer, x: layer(x)),
    "other types": ({}, lambda layer, x: (layer.double().base_layer.float(), layer(x))[1]),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_the_function_does_not_know_goes_through_torch(name: str) -> None:
    settings, call = NOT_TAKEN[name]
    layer, x = make_layer(**settings), torch.randn(2, 5, WIDE)
    assert not is_fused(call(layer, x))


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"balance_weight": 1.0}], ids=str)
def test_what_acts_in_training_alone_is_fused_afterwards(settings: dict[str, Any]) -> None:
    assert is_fused(make_layer(**settings).eval()(torch.randn(5, WIDE)))


def test_an_option_that_the_function_has_never_heard_of_keeps_it_away() -> None:
    @dataclass
    class Later(HydraLoraConfig):
        sharpness: float = 1.0

    assert fused.make_plan(Later(r=RANK), RANK, 2.0) is not None
    assert fused.make_plan(Later(r=RANK, sharpness=2.0), RANK, 2.0) is None


def test_options_that_keep_the_function_away_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    fused._say_slower.cache_clear()
    for _ in range(2):
        fused.make_plan(HydraLoraConfig(r=RANK, top_k=2, router_input="pooled"), RANK, 2.0)
    assert [record.getMessage() for record in caplog.records] == [
        "With `top_k` 2, `router_input` 'pooled' layers are computed by torch's own operations, which are slower."
    ]


def test_transforms_of_functions_and_forward_derivatives_give_what_torch_gives() -> None:
    layer, x = make_layer(), torch.randn(3, WIDE)
    each = torch.func.vmap(torch.func.grad(lambda row: layer(row).sin().sum()))(x)
    own = x.clone().requires_grad_(True)
    layer(own).sin().sum().backward()
    torch.testing.assert_close(each, own.grad)
    moved = torch.func.jvp(layer, (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(moved, layer(x + 5e-3) * 100 - layer(x - 5e-3) * 100, rtol=1e-2, atol=1e-2)


def test_two_adapters_at_once_are_the_sum_of_both() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    layer.update_layer("more", HydraLoraConfig(r=RANK, num_experts=2, init_weights=False))
    one, base = layer(x), layer.base_layer(x)
    layer.set_adapter(["more"])
    other = layer(x)
    layer.set_adapter(["default", "more"])
    torch.testing.assert_close(layer(x), one + other - base)
    layer.delete_adapter("more")
    assert layer.plans.keys() == {"default"}


def test_a_changed_scaling_is_the_one_that_counts() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    update = layer(x) - layer.base_layer(x)
    layer.scaling["default"] *= 3
    torch.testing.assert_close(layer(x) - layer.base_layer(x), 3 * update, rtol=1e-5, atol=1e-5)


def test_copies_are_fused_as_well() -> None:
    layer, x = make_layer(), torch.randn(5, WIDE)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert is_fused(other(x)) and torch.equal(other(x), layer(x))


@pytest.mark.parametrize("kind", KINDS[:4], ids=str)
def test_gates_kept_on_the_way_are_those_of_torch(kind: dict[str, Any]) -> None:
    layer, x = make_layer(**kind), torch.randn(2, 5, WIDE)
    layer.capture = True
    found = (layer(x), layer.kept_gates.pop())[1]
    layer.plans = dict.fromkeys(layer.plans)
    layer(x)
    torch.testing.assert_close(found, layer.kept_gates.pop())


def test_the_backward_pass_keeps_the_narrow_product_alone() -> None:
    layer, x, sizes = make_layer(), torch.randn(50, WIDE, requires_grad=True), []
    known = {weight.data_ptr() for weight in [x, *layer.parameters()]}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert sizes == [50 * (RANK + 4)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_base_in_bfloat16_under_an_adapter_in_float32_differs_from_torch_by_its_rounding_only(
    kind: dict[str, Any],
) -> None:
    layer: Any = make_layer(**kind)
    layer.base_layer.to(torch.bfloat16)
    x = torch.randn(2, 5, WIDE, dtype=torch.bfloat16)
    assert is_fused(layer(x.requires_grad_(True)))
    found = step(layer, x)
    assert_same(found, by_torch(layer, x), 3e-2)
    assert {grad.dtype for name, grad in found.items() if "hydralora" in name} == {torch.float32}


def test_a_base_in_bfloat16_keeps_its_input_once_and_not_as_float32() -> None:
    layer: Any = make_layer()
    layer.base_layer.to(torch.bfloat16)
    kept: list[Tensor] = []
    x = torch.randn(200, WIDE, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    wide = [tensor for tensor in kept if tensor.shape == x.shape]
    assert {(tensor.dtype, tensor.data_ptr()) for tensor in wide} == {(torch.bfloat16, x.data_ptr())}
