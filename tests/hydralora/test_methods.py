"""Every method by name: it builds, learns, is saved, and comes back with the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel

from hydralora import METHODS, GateCapture, add_adapter, count_parameters
from hydralora.errors import AdapterError
from hydralora.methods import export_ways
from hydralora.options import HydraOptions
from tests.hydralora.conftest import randomise

SMALL = {
    "adalora": {"target_r": 2, "init_r": 4},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "prefix_tuning": {"num_virtual_tokens": 3},
    "ia3": {},
    "full": {},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 8},
}
LAYERS = [(32, 32)] * 4 + [(32, 48)] * 2 + [(48, 32)]  # (in, out) of one block of the tiny Llama
BUILT = [name for name in METHODS if name != "lorahub"]  # which needs finished adapters: test_lorahub.py
ROUTED = [name for name, method in METHODS.items() if method.routed]


def build(model: Any, method: str, **more: Any) -> Any:
    options = {**SMALL.get(method, {"r": 4}), **more}
    return add_adapter(model, method, options, seed=3, steps=10)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def train_two_steps(model: Any, ids: torch.Tensor) -> list[float]:
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.5)
    losses = []
    model.train()
    for step in (1, 2):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        if hasattr(model.base_model, "update_and_allocate"):
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("method", BUILT)
def test_a_method_trains_saves_and_comes_back_the_same(method, load_tiny, ids, tmp_path):
    model = build(load_tiny(), method)
    before = logits(model, ids)
    train_two_steps(model, ids)
    after = logits(model, ids)
    assert not torch.equal(after, before) and torch.isfinite(after).all()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path)
    torch.testing.assert_close(logits(loaded, ids), after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", BUILT)
def test_the_base_is_never_trained(method, load_tiny, ids):
    before = {name: weight.clone() for name, weight in load_tiny().named_parameters()}
    base = load_tiny()
    model = build(base, method)
    train_two_steps(model, ids)
    after = {
        n.replace("base_layer.", "").replace("original_module.", ""): w
        for n, w in model.get_base_model().named_parameters()
    }
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("method", BUILT)
def test_the_same_seed_gives_the_same_starting_weights(method, load_tiny):
    first, second = (build(load_tiny(), method).state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ROUTED)
def test_routed_methods_give_gates_that_sum_to_one(method, tiny, ids):
    model = randomise(build(tiny, method, num_experts=3)).eval()
    with GateCapture(model) as capture:
        logits(model, ids)
        gates = capture.take()
    assert gates.shape == (14, 2, 7, 3)
    torch.testing.assert_close(gates.sum(-1), gates.new_ones(14, 2, 7))


@pytest.mark.parametrize("method", [name for name in BUILT if name not in ROUTED])
def test_methods_that_are_not_routed_have_no_gates(method, tiny):
    assert GateCapture(build(tiny, method)).names == []


@pytest.mark.parametrize("method", ["hydralora", "lora", "lora_split", "lora_moe", "adalora", "ia3", "full"])
def test_a_new_adapter_is_the_base(method, tiny, ids):
    before = logits(tiny, ids)
    assert torch.equal(logits(build(tiny, method), ids), before)


def test_r_lora_starts_at_the_base_with_heads_that_differ(tiny, ids):
    before = logits(tiny, ids)
    model = build(tiny, "r_lora")
    torch.testing.assert_close(logits(model, ids), before, rtol=1e-4, atol=1e-5)
    layer = model.base_model.routed_layers()[0]
    heads = layer.hydralora_B["default"].weight.view(layer.out_features, 4, 4)
    assert (heads[:, 0] - heads[:, 1]).abs().min() > 0


@pytest.mark.parametrize("method", ["lora", "adalora", "ia3", "full"])
def test_methods_called_mergeable_merge_to_the_same_logits(method, tiny, ids):
    assert METHODS[method].mergeable == "exact"
    model = randomise(build(tiny, method)).eval()
    before = logits(model, ids)
    torch.testing.assert_close(logits(model.merge_and_unload(), ids), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("router_input", ["x", "Ax"])
def test_parameters_of_hydralora_follow_the_formula(tiny, router_input):
    rank, heads, base = 4, 3, sum(weight.numel() for weight in tiny.parameters())
    options = {"num_experts": heads, "router_input": router_input}
    count = count_parameters(build(tiny, "hydralora", **options))
    trainable = 2 * sum(rank * wide + heads * rank * out for wide, out in LAYERS)
    router = 2 * sum(heads * (wide if router_input == "x" else rank) for wide, _ in LAYERS)
    assert (count.trainable, count.router) == (trainable, router)
    assert count.total == base + trainable + router
    assert count.share == (trainable + router) / count.total


def test_parameters_of_lora_follow_the_formula(tiny):
    count = count_parameters(build(tiny, "lora"))
    assert count.trainable == 2 * sum(4 * (wide + out) for wide, out in LAYERS)
    assert count.router == 0


def test_parameters_of_lora_moe_follow_the_formula(tiny):
    count = count_parameters(build(tiny, "lora_moe", num_experts=3))
    assert count.trainable == 2 * sum(3 * 4 * (wide + out) for wide, out in LAYERS)
    assert count.router == 2 * sum(3 * wide for wide, _ in LAYERS)


def test_lora_split_has_as_many_parameters_as_one_large_lora(load_tiny):
    split = count_parameters(build(load_tiny(), "lora_split", r=4, num_experts=4))
    large = count_parameters(build(load_tiny(), "lora", r=16))
    assert split == large


def test_targets_choose_the_layers(tiny):
    model = build(tiny, "hydralora", target_modules=["q_proj", "1.mlp.up_proj"])
    assert [layer.name for layer in model.base_model.routed_layers()] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    ]


@pytest.mark.parametrize("method", ["hydralora", "lora", "ia3"])
def test_an_unknown_target_is_refused_with_the_ones_there_are(tiny, method):
    with pytest.raises(AdapterError, match=r"No layer is called 'w1'. This model has: q_proj, k_proj"):
        build(tiny, method, target_modules=["w1"], **({} if method == "ia3" else {"r": 2}))


def test_an_unknown_method_is_refused_with_the_ones_there_are(tiny):
    with pytest.raises(AdapterError, match=r"Method 'hydra' is unknown. Choose one of: hydralora, lora"):
        add_adapter(tiny, "hydra")


@pytest.mark.parametrize("method", [name for name in BUILT if "r" in METHODS[name].options.model_fields])
def test_a_rank_too_large_is_refused_with_layer_and_value(tiny, method):
    with pytest.raises(
        AdapterError, match=r"Layer '.*layers.0.self_attn.q_proj': .*between 1 and 32 for a 32x32 layer, got 33\."
    ):
        build(tiny, method, r=33)


PRESETS = [(name, preset) for name in BUILT for preset in METHODS[name].presets]


@pytest.mark.parametrize(("method", "preset"), PRESETS)
def test_presets_build_with_just_their_values(tiny, method, preset):
    given = METHODS[method].presets[preset]
    options = METHODS[method].options(**given)
    assert {name: getattr(options, name) for name in given} == given
    assert count_parameters(add_adapter(tiny, method, options.model_dump())).trainable > 0


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_method_says_what_it_computes_and_where_it_comes_from(method):
    texts = (method.title, method.summary, method.formula, method.reconstruction)
    assert all(texts) and "https://arxiv.org/abs/" in method.source
    assert all(field.description for field in method.options.model_fields.values())


def test_adalora_prunes_down_to_its_target(tiny, ids):
    model = build(tiny, "adalora", target_r=2, init_r=4)
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    model.train()
    for step in range(1, 11):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    kept = [weight.count_nonzero().item() for n, weight in model.named_parameters() if "lora_E" in n]
    assert sum(kept) == 2 * len(kept)


ROUTING = {
    "gate": "softmax",
    "temperature": 0.5,
    "top_k": 2,
    "balance_weight": 0.1,
    "balance_loss": "switch",
    "z_weight": 0.01,
}


@pytest.mark.parametrize("method", ["hydralora", "lora_moe"])
def test_options_of_the_routing_reach_every_layer_and_come_back(method, tiny, load_tiny, ids, tmp_path):
    model = randomise(add_adapter(tiny, method, {"r": 2, **ROUTING})).eval()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(load_tiny(), tmp_path).eval()
    for layer in again.base_model.routed_layers():
        assert {name: getattr(layer.options["default"], name) for name in ROUTING} == ROUTING
    with GateCapture(again) as capture, torch.inference_mode():
        logits = again(input_ids=ids).logits
        assert torch.equal((capture.take() > 0).sum(-1).unique(), torch.tensor([2], device=ids.device))
        assert torch.equal(model(input_ids=ids).logits, logits)


def test_uniform_gates_leave_no_router_and_merge(tiny, ids):
    model = randomise(add_adapter(tiny, "hydralora", {"r": 2, "gate": "uniform"})).eval()
    assert not any("router" in name for name, _ in model.named_parameters()) and GateCapture(model).names == []
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        torch.testing.assert_close(model.merge_and_unload()(input_ids=ids).logits, before, rtol=1e-4, atol=1e-4)
    assert export_ways("hydralora", HydraOptions(gate="uniform")) == ["merged", "uniform"]


WRONG_ROUTING = [
    ("hydralora", {"top_k": 5}, "`top_k` must be at most `num_experts`, 4, got 5"),
    ("hydralora", {"top_k": -1}, "top_k"),
    ("hydralora", {"temperature": 0.0}, "temperature"),
    ("lora_moe", {"gate": "hard"}, "gate"),
    ("lora_moe", {"balance_loss": "none"}, "balance_loss"),
    ("lope", {"top_k": 2}, "`top_k` must be 0 here, got 2: a token may choose the silent head alone"),
]


@pytest.mark.parametrize(("method", "options", "sentence"), WRONG_ROUTING, ids=str)
def test_a_wrong_option_of_the_routing_is_refused_by_name(method, options, sentence, tiny):
    with pytest.raises(AdapterError, match=sentence):
        add_adapter(tiny, method, options)
