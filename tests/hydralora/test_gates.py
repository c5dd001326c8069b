"""Gate weights that are read are the ones that were used; changing them does what the formula says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from hydralora import GateCapture, HydraLoraConfig, override_experts
from hydralora.errors import AdapterError
from hydralora.tuner.gates import gate_layers
from tests.hydralora.conftest import randomise

TARGETS = ["q_proj", "down_proj"]


def make_adapted(model: Any, **settings: Any) -> Any:
    config = HydraLoraConfig(
        **{
            "r": 4,
            "num_experts": 3,
            "target_modules": TARGETS,
            "task_type": "CAUSAL_LM",
            **settings,
        }
    )
    return randomise(get_peft_model(model, config)).eval()


def make_t5(**sizes: int) -> Any:
    config = T5Config(**sizes, dropout_rate=0.0, pad_token_id=0, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


@pytest.fixture
def adapted(tiny: Any) -> Any:
    return make_adapted(tiny)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits


def capture(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with GateCapture(model) as context:
        logits(model, ids)
        return context.take()


def gates_by_hand(model: Any, ids: torch.Tensor, adapter: str = "default", router_input: str = "x") -> torch.Tensor:
    """Softmax of the router's product with what each layer received, seen from outside by hooks."""
    seen: dict[str, torch.Tensor] = {}
    layers = gate_layers(model, adapter)
    hooks = [
        layer.register_forward_pre_hook(lambda m, args: seen.__setitem__(m.name, args[0])) for layer in layers.values()
    ]
    with torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    found = []
    for name, layer in layers.items():
        x = seen[name]
        if router_input == "Ax":
            x = x @ layer.hydralora_A[adapter].weight.T
        found.append(torch.softmax(x @ layer.hydralora_router[adapter].weight.T, -1))
    return torch.stack(found).detach()


@pytest.mark.parametrize("router_input", ["x", "Ax"])
def test_captured_gates_are_the_gates_of_the_formula(tiny, ids, router_input):
    model = make_adapted(tiny, router_input=router_input)
    found = capture(model, ids)
    assert found.shape == (4, 2, 7, 3) and found.dtype == torch.float32
    torch.testing.assert_close(found, gates_by_hand(model, ids, router_input=router_input), rtol=1e-5, atol=1e-6)


def test_layers_are_named_in_model_order(adapted):
    assert GateCapture(adapted).names == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    ]


def test_captured_gates_change_with_the_token(adapted, ids):
    found = capture(adapted, ids)
    assert found.std(2).min() > 0


def test_capture_leaves_outputs_unchanged(adapted, ids):
    before = logits(adapted, ids)
    with GateCapture(adapted):
        assert torch.equal(logits(adapted, ids), before)
    assert torch.equal(logits(adapted, ids), before)


def test_captured_gates_hold_no_gradient_and_do_not_change_it(adapted, ids):
    adapted(input_ids=ids, labels=ids).loss.backward()
    plain = {n: w.grad.clone() for n, w in adapted.named_parameters() if w.grad is not None}
    adapted.zero_grad()
    with GateCapture(adapted) as context:
        adapted(input_ids=ids, labels=ids).loss.backward()
        assert not context.take().requires_grad
    again = {n: w.grad for n, w in adapted.named_parameters() if w.grad is not None}
    assert all(torch.equal(again[name], plain[name]) for name in plain)


def test_nothing_is_kept_after_the_context(adapted, ids):
    with GateCapture(adapted):
        logits(adapted, ids)
    logits(adapted, ids)
    layers = gate_layers(adapted).values()
    assert all(not layer.kept_gates and not layer.capture for layer in layers)


def test_gates_can_be_taken_once_for_each_forward_pass(adapted, ids):
    with GateCapture(adapted) as context:
        logits(adapted, ids)
        context.take()
        with pytest.raises(AdapterError, match="Run the model inside the context first"):
            context.take()


def test_a_disabled_capture_records_nothing(adapted, ids):
    with GateCapture(adapted, enabled=False) as context:
        logits(adapted, ids)
        assert context.names == []


def test_an_adapter_without_router_has_no_layers_to_capture(tiny):
    assert GateCapture(make_adapted(tiny, combine="mean")).names == []


def scale_heads(model: Any, factors: dict[str, dict[int, float]]) -> None:
    """Multiply head weights: what changing a gate weight must equal."""
    for name, layer in gate_layers(model).items():
        weight = layer.hydralora_B["default"].weight
        heads = weight.data.view(weight.shape[0], 3, -1)
        for expert, factor in factors.get(name, {}).items():
            heads[:, expert] *= factor


@pytest.mark.parametrize("factors", [{1: 0.0}, {0: 2.0}, {0: 0.5, 2: -1.0}, {}], ids=str)
def test_a_factor_equals_the_same_factor_on_the_head(adapted, ids, factors):
    with override_experts(adapted, factors):
        result = logits(adapted, ids)
    scale_heads(adapted, dict.fromkeys(gate_layers(adapted), factors))
    torch.testing.assert_close(result, logits(adapted, ids), rtol=1e-5, atol=1e-5)


def test_muting_every_expert_gives_the_base(adapted, load_tiny, ids):
    with override_experts(adapted, {0: 0.0, 1: 0.0, 2: 0.0}):
        result = logits(adapted, ids)
    torch.testing.assert_close(result, logits(load_tiny(), ids), rtol=0, atol=0)


def test_a_factor_can_be_given_for_one_layer_only(adapted, ids):
    factors = {"model.layers.1.mlp.down_proj": {1: 3.0}}
    with override_experts(adapted, factors):
        result = logits(adapted, ids)
    scale_heads(adapted, factors)
    torch.testing.assert_close(result, logits(adapted, ids), rtol=1e-5, atol=1e-5)


def test_a_forced_expert_speaks_alone_with_weight_one(adapted, ids):
    with override_experts(adapted, {}, force=2):
        forced, gates = logits(adapted, ids), capture(adapted, ids)
    assert torch.equal(gates, gates.new_tensor([0.0, 0.0, 1.0]).expand_as(gates))
    for layer in gate_layers(adapted).values():
        layer.hydralora_router["default"].weight.data.zero_()
    scale_heads(adapted, {name: {0: 0.0, 1: 0.0, 2: 3.0} for name in gate_layers(adapted)})
    torch.testing.assert_close(forced, logits(adapted, ids), rtol=1e-5, atol=1e-5)


def test_an_expert_can_be_forced_in_one_layer_only(adapted, ids):
    name = "model.layers.1.mlp.down_proj"
    with override_experts(adapted, {}, force={name: 1}):
        forced, gates = logits(adapted, ids), capture(adapted, ids)
    assert torch.equal(gates[3], gates.new_tensor([0.0, 1.0, 0.0]).expand_as(gates[3]))
    torch.testing.assert_close(gates[:3], capture(adapted, ids)[:3])
    gate_layers(adapted)[name].hydralora_router["default"].weight.data.zero_()
    scale_heads(adapted, {name: {0: 0.0, 1: 3.0, 2: 0.0}})
    torch.testing.assert_close(forced, logits(adapted, ids), rtol=1e-5, atol=1e-5)


def test_muting_an_expert_in_one_layer_equals_deleting_its_head_there(adapted, ids):
    name = "model.layers.0.self_attn.q_proj"
    with override_experts(adapted, {name: {2: 0.0}}):
        muted = logits(adapted, ids)
    scale_heads(adapted, {name: {2: 0.0}})
    torch.testing.assert_close(muted, logits(adapted, ids), rtol=0, atol=0)


def test_captured_gates_include_the_override(adapted, ids):
    before = capture(adapted, ids)
    with override_experts(adapted, {1: 0.0}):
        muted = capture(adapted, ids)
    assert muted[..., 1].abs().max() == 0
    torch.testing.assert_close(muted[0, ..., 0], before[0, ..., 0])


def test_the_override_ends_with_its_context_even_after_an_error(adapted, ids):
    before = logits(adapted, ids)
    with pytest.raises(RuntimeError), override_experts(adapted, {0: 0.0}, force=1):
        raise RuntimeError("in mid-answer")
    assert torch.equal(logits(adapted, ids), before)


@pytest.mark.parametrize(("factors", "force"), [({3: 0.0}, None), ({-1: 1.0}, None), ({}, 3)])
def test_an_expert_that_does_not_exist_is_refused(adapted, ids, factors, force):
    before = logits(adapted, ids)
    with pytest.raises(AdapterError, match=r"`expert` must be between 0 and 2, got (3|-1)\."):
        with override_experts(adapted, factors, force=force):
            pass
    assert torch.equal(logits(adapted, ids), before)


def test_a_layer_that_does_not_exist_is_refused(adapted):
    with pytest.raises(AdapterError, match=r"Layer 'nowhere' has no experts here. Known: model.layers.0"):
        with override_experts(adapted, {"nowhere": {0: 1.0}}):
            pass


def test_an_adapter_without_router_cannot_be_overridden(tiny):
    with pytest.raises(AdapterError, match="has no router"):
        with override_experts(make_adapted(tiny, combine="sum"), {0: 0.0}):
            pass


def test_only_the_active_adapter_is_captured(adapted, ids):
    adapted.add_adapter("pair", HydraLoraConfig(r=2, num_experts=2, target_modules=["v_proj"]))
    assert capture(adapted, ids).shape == (4, 2, 7, 3)
    adapted.set_adapter("pair")
    assert capture(adapted, ids).shape == (2, 2, 7, 2)


def two_at_work(model: Any) -> Any:
    """Adapters "default" of three heads and "pair" of two, both at work in `q_proj`."""
    adapted = make_adapted(model)
    adapted.add_adapter("pair", HydraLoraConfig(r=2, num_experts=2, target_modules=["q_proj"]))
    adapted.base_model.set_adapter(["default", "pair"])
    return randomise(adapted).eval()


def test_of_two_adapters_at_work_the_one_asked_for_is_captured(tiny, ids):
    adapted = two_at_work(tiny)
    found = {}
    for name in ("default", "pair"):
        with GateCapture(adapted, adapter=name) as context:
            logits(adapted, ids)
            found[name] = context.take()
    assert found["default"].shape == (4, 2, 7, 3) and found["pair"].shape == (2, 2, 7, 2)
    torch.testing.assert_close(found["default"], gates_by_hand(adapted, ids, "default"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["pair"], gates_by_hand(adapted, ids, "pair"), rtol=1e-5, atol=1e-6)


def test_of_two_adapters_at_work_one_must_be_named(tiny):
    adapted = two_at_work(tiny)
    with pytest.raises(AdapterError, match=r"2 adapters with gates are at work: default, pair\. Say which"):
        GateCapture(adapted)
    with pytest.raises(AdapterError, match="Adapter 'third' is not at work; at work: default, pair"):
        GateCapture(adapted, adapter="third")


def test_only_the_adapter_named_is_overridden(tiny, ids):
    adapted = two_at_work(tiny)
    with override_experts(adapted, {0: 0.0, 1: 0.0, 2: 0.0}, adapter="default"):
        muted = logits(adapted, ids)
    adapted.base_model.set_adapter("pair")
    torch.testing.assert_close(muted, logits(adapted, ids), rtol=1e-5, atol=1e-5)


def test_gates_of_a_model_that_flattens_its_tokens_are_by_example(ids):
    config = OPTConfig(
        vocab_size=320, hidden_size=16, num_hidden_layers=2, ffn_dim=24, num_attention_heads=2, word_embed_proj_dim=16
    )
    model = make_adapted(OPTForCausalLM(config).to(ids.device), target_modules=["q_proj", "fc1"])
    found = capture(model, ids)
    assert found.shape == (4, 2, 7, 3)
    torch.testing.assert_close(found[:, :1], capture(model, ids[:1]), rtol=1e-4, atol=1e-5)


def test_gates_of_an_encoder_decoder_are_taken_layer_by_layer_without_padding(ids):
    sizes = {"vocab_size": 320, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    model = make_t5(**sizes).to(ids.device)
    adapted = make_adapted(model, target_modules=["q", "k", "wi"], task_type="SEQ_2_SEQ_LM")
    target = ids[:, :4].contiguous()
    given = {"input_ids": ids, "labels": target}
    with GateCapture(adapted) as context, torch.inference_mode():
        adapted(**given)
        each = context.take_each()
        adapted(**given)
        means = context.take_means()
        mask, longer = nn.functional.pad(torch.ones_like(ids), (0, 5)), nn.functional.pad(target, (0, 3), value=-100)
        adapted(input_ids=nn.functional.pad(ids, (0, 5)), attention_mask=mask, labels=longer)
        again = context.take_means()
        adapted(**given)
        with pytest.raises(AdapterError, match=r"different shapes .* one by one with `take_each`"):
            context.take()
    shapes = {name: tuple(gates.shape) for name, gates in each.items()}
    assert shapes["encoder.block.0.layer.0.SelfAttention.q"] == (2, 7, 3)
    assert shapes["decoder.block.0.layer.0.SelfAttention.q"] == (2, 4, 3)
    assert shapes["decoder.block.0.layer.1.EncDecAttention.k"] == (2, 7, 3)
    for name, row in means.items():
        assert row == pytest.approx(each[name].mean((0, 1)).tolist(), abs=1e-5), name
        assert row == pytest.approx(again[name], abs=1e-4), name
