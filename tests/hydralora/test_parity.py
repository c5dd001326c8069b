"""Every method's layer equals its formula, written as a loop over tokens and experts, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hydralora import METHODS, add_adapter
from hydralora.tuner.gates import choose_heads
from hydralora.tuner.layer import HydraLoraLinear
from tests.hydralora.conftest import DEVICE, randomise

EXACT = {"rtol": 1e-12, "atol": 1e-12}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("hydralora", {}),
    ("hydralora", {"router_input": "Ax"}),
    ("hydralora", {"router_input": "pooled"}),
    ("hydralora", {"use_rslora": True, "lora_alpha": 5.0}),
    ("hydralora", {"num_experts": 1}),
    ("r_lora", {}),
    ("lora_moe", {}),
    ("lope", {}),
    ("lope", {"compensation_top_k": 0}),
    ("lope", {"compensation_top_k": 1, "compensation_beta": 0.5}),
    ("lope", {"compensation_top_k": 2}),
    ("lope", {"compensation_top_k": 64, "compensation_beta": 2.0}),
    ("lora_split", {"combine": "mean"}),
    ("lora_split", {"combine": "sum"}),
    ("lora_split", {"combine": "router"}),
    ("lora_split", {"combine": "hard"}),
    ("lora", {}),
    ("thanora", {}),
    ("meta_lora", {"use_rslora": True}),
]
LORAS = ("lora", "thanora", "meta_lora")
HEADS = torch.tensor([2, 0], device=DEVICE)  # of the two examples, where tasks choose


def make_layer(tiny: Any, method: str, options: dict[str, Any]) -> Any:
    """One adapted layer of the tiny Llama with random weights, in float64, not training."""
    given = {"r": 4, "target_modules": ["up_proj"], **({} if method in LORAS else {"num_experts": 3}), **options}
    model = randomise(add_adapter(tiny, method, given), scale=0.4).double().eval()
    choose_heads(model, HEADS)
    return model.base_model.model.model.layers[1].mlp.up_proj


def inputs() -> Tensor:
    """Two examples of five tokens ``(2, 5, 32)``."""
    return torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def matrices(layer: Any) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """A and B of every expert, and the router."""
    if not isinstance(layer, HydraLoraLinear):
        return [layer.lora_A["default"].weight], [layer.lora_B["default"].weight], None
    count, rank = layer.num_experts["default"], layer.r["default"]
    a, b = layer.hydralora_A["default"].weight, layer.hydralora_B["default"].weight.view(-1, count, rank)
    own = [a if len(a) == rank else a[i * rank : (i + 1) * rank] for i in range(count)]
    router = layer.hydralora_router["default"].weight if "default" in layer.hydralora_router else None
    return own, [b[:, i] for i in range(count)], router


def gates_of(method: str, options: dict[str, Any], x: Tensor, row: int, token: int, parts: Any) -> Tensor:
    """Gate weights ``(N,)`` of one token, from the definition."""
    own, heads, router = parts
    count, combine = len(heads), options.get("combine", "router")
    if method in LORAS or count == 1 or combine == "sum":
        return x.new_ones(count)
    if combine == "mean":
        return x.new_full((count,), 1 / count)
    if combine == "hard":
        return torch.nn.functional.one_hot(HEADS[row], count).to(x.dtype)
    seen = {
        "x": x[row, token],
        "Ax": own[0] @ x[row, token],
        "pooled": sum(own[0] @ x[row, t] for t in range(token + 1)) / (token + 1),
    }[options.get("router_input", "x")]
    scores = torch.exp(router @ seen)
    gates = scores / scores.sum()
    if method == "lope":  # the last head is silent and gives its gate to the others by similarity
        updates = [b @ (a @ x[row, token]) for a, b in zip(own, heads, strict=True)]
        similarity = torch.stack([torch.cosine_similarity(u, updates[-1], dim=0) for u in updates[:-1]])
        most, beta = options.get("compensation_top_k", -1), options.get("compensation_beta", 1.0)
        order = similarity.argsort(descending=True)
        like = order if most < 0 else order[:most]
        extra = torch.zeros_like(similarity)
        extra[like] = beta * gates[-1] * torch.softmax(similarity[like], 0)
        gates = torch.cat([gates[:-1] + extra, gates.new_zeros(1)])
    return gates


def by_loop(layer: Any, method: str, options: dict[str, Any], x: Tensor) -> Tensor:
    parts = matrices(layer)
    scale = options.get("lora_alpha", 16.0) / (4**0.5 if options.get("use_rslora", method == "r_lora") else 4)
    result = layer.get_base_layer()(x).clone()
    for row in range(x.shape[0]):
        for token in range(x.shape[1]):
            gates = gates_of(method, options, x, row, token, parts)
            for gate, a, b in zip(gates, *parts[:2], strict=True):
                result[row, token] += scale * gate * (b @ (a @ x[row, token]))
    return result


@pytest.mark.parametrize(("method", "options"), CASES, ids=[f"{name} {given}" for name, given in CASES])
def test_a_layer_is_its_formula_as_a_loop(method, options, tiny):
    layer = make_layer(tiny, method, options)
    x = inputs()
    torch.testing.assert_close(layer(x), by_loop(layer, method, options, x), **EXACT)


def test_every_method_of_our_own_layer_is_among_the_cases():
    routed = {name for name, method in METHODS.items() if method.routed} | {"lora_split", *LORAS}
    assert {name for name, _ in CASES} == routed


def test_dropout_of_r_lora_is_its_formula_with_the_masks_that_were_drawn(tiny):
    layer, drawn = make_layer(tiny, "r_lora", {"lora_dropout": 0.5}).train(), []
    layer.hydralora_dropout["default"].register_forward_hook(lambda _, given, out: drawn.append(out / given[0]))
    x = inputs()
    found = layer(x)
    masks = drawn[0].view(2, 5, 3, 4)  # 0 or 2 for each head
    assert set(masks.detach().unique().tolist()) == {0.0, 2.0}
    own, heads, router = matrices(layer)
    gates, expected = torch.softmax(x @ router.T, -1), layer.get_base_layer()(x)
    for i in range(3):
        expected = expected + 8.0 * gates[..., i : i + 1] * ((masks[..., i, :] * (x @ own[i].T)) @ heads[i].T)
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("method", ["hydralora", "r_lora", "lora_moe"])
def test_renaming_the_experts_changes_nothing(method, tiny):
    layer, order = make_layer(tiny, method, {}), [2, 0, 1]
    x = inputs()
    before, count, rank = layer(x), 3, 4
    with torch.no_grad():
        b = layer.hydralora_B["default"].weight
        b.copy_(b.view(-1, count, rank)[:, order].flatten(1))
        layer.hydralora_router["default"].weight.copy_(layer.hydralora_router["default"].weight[order])
        a = layer.hydralora_A["default"].weight
        if len(a) > rank:
            a.copy_(a.view(count, rank, -1)[order].flatten(0, 1))
    torch.testing.assert_close(layer(x), before, **EXACT)


@pytest.mark.parametrize("method", ["hydralora", "r_lora", "lora_moe", "lope", "lora_split"])
def test_zero_heads_are_the_base(method, tiny):
    layer = make_layer(tiny, method, {})
    torch.nn.init.zeros_(layer.hydralora_B["default"].weight)
    x = inputs()
    assert torch.equal(layer(x), layer.get_base_layer()(x))
