"""The layer under ``torch.compile``, autocast and gradient checkpointing: one graph, the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hydralora import GateCapture, HydraLoraConfig
from hydralora.errors import AdapterError
from tests.hydralora.conftest import randomise
from tests.hydralora.test_layer import make_layer

KINDS = [
    {},
    {"router_input": "Ax"},
    {"shared_a": False},
    {"combine": "mean"},
    {"num_experts": 1},
    {"balance_weight": 0.1},
    {"balance_weight": 0.1, "balance_loss": "switch", "z_weight": 0.1},
    {"top_k": 2, "temperature": 2.0},
    {"head_mask": [1]},
    {"head_mask": [1], "head_compensation": "cosine"},
    {"head_mask": [1], "head_compensation": "cosine", "compensation_top_k": 1, "compensation_beta": 0.5},
    {"lora_dropout": 0.2, "dropout_place": "heads"},
    {"lora_dropout": 0.2, "dropout_place": "input_per_head"},
    {"head_init": "offset"},
    {"router_scope": "block"},
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Each test compiles from the beginning, so none meets the limit of recompilations."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def adapt(model: Any, **settings: Any) -> Any:
    config = HydraLoraConfig(
        r=4, num_experts=3, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM", **settings
    )
    return randomise(get_peft_model(model, config), scale=0.1)


def step(layer: Any, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of one forward and backward pass."""
    torch.manual_seed(0)
    layer.zero_grad()
    x = x.clone().requires_grad_(True)
    result = layer(x)
    (result * torch.arange(result.numel()).view_as(result).cos()).sum().backward()
    found = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    return {"output": result.detach(), "input": x.grad, **{n.removeprefix("_orig_mod."): g for n, g in found.items()}}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_the_layer_compiles_into_one_graph_with_the_same_gradients(settings):
    layer, x = make_layer(**settings).train(), torch.randn(2, 5, 12)
    plain = {name: value.clone() for name, value in step(layer, x).items()}
    assert_same(plain, step(torch.compile(layer, fullgraph=True, backend="aot_eager"), x))


@pytest.mark.parametrize("base", [nn.Linear(12, 9), Conv1D(9, 12)], ids=["Linear", "Conv1D"])
def test_the_layer_compiles_outside_training_and_in_inference_mode(base):
    layer, x = make_layer(base=base, head_mask=[1]).eval(), torch.randn(2, 5, 12)
    with torch.inference_mode():
        expected = layer(x)
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), expected)


def test_a_compiled_layer_takes_other_lengths_without_a_break():
    compiled = torch.compile(make_layer(), fullgraph=True, backend="eager", dynamic=True)
    for shape in ((2, 5, 12), (1, 9, 12), (3, 2, 12)):
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), make_layer()(x))


def test_a_compiled_layer_still_gives_its_gates():
    layer, x = make_layer(), torch.randn(2, 5, 12)
    layer.capture = True
    layer(x)
    expected = layer.kept_gates[-1]
    layer.kept_gates.clear()
    torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(layer.kept_gates[-1], expected)


def test_a_whole_model_compiles_into_one_graph_and_trains_the_same(tiny, ids):
    tiny.model.layers = tiny.model.layers[:1]  # one block: the rest of the time goes into transformers' code
    model = adapt(tiny, balance_weight=0.1).train()
    model.config.use_cache = False
    forward = torch.compile(model.forward, fullgraph=True, backend="eager")
    grads = []
    for call in (model.forward, forward):
        model.zero_grad()
        call(input_ids=ids, labels=ids).loss.backward()
        grads.append({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})
    assert_same(*grads)


@pytest.mark.parametrize("enabled", [False, True], ids=["float32", "autocast"])
def test_a_model_trains_under_autocast_in_the_base_type_with_float32_weights(tiny, ids, enabled):
    model = adapt(tiny).train()
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=enabled):
        out = model(input_ids=ids, labels=ids)
    out.loss.backward()
    grads = [w.grad for w in model.parameters() if w.requires_grad]
    assert out.logits.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() and g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize("cast", [True, False], ids=["float32 adapter", "bfloat16 adapter"])
def test_a_bfloat16_base_keeps_the_adapter_in_the_chosen_type_and_reloads_exactly(load_tiny, ids, tmp_path, cast):
    config = HydraLoraConfig(r=4, num_experts=3, target_modules=["q_proj"], task_type="CAUSAL_LM")
    base = load_tiny().to(torch.bfloat16)
    model = get_peft_model(base, config, autocast_adapter_dtype=cast)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    kinds = {w.dtype for w in model.parameters() if w.requires_grad}
    assert kinds == {torch.float32 if cast else torch.bfloat16}
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(load_tiny().to(torch.bfloat16), tmp_path, autocast_adapter_dtype=cast)
    with torch.inference_mode():
        assert torch.equal(again.eval()(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_of_the_model_gives_the_same_gradients(tiny, ids, use_reentrant):
    model = adapt(tiny).train()
    model.enable_input_require_grads()
    grads = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        grads.append({n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None})
    assert grads[0].keys() == grads[1].keys() and all(torch.equal(grads[0][n], grads[1][n]) for n in grads[0])


def test_checkpointing_passes_the_gradient_of_the_balance_loss_on(tiny, ids):
    model = adapt(tiny, balance_weight=1.0).train()
    grads = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        grads.append({n: w.grad.clone() for n, w in model.named_parameters() if "router" in n})
    assert all(torch.equal(grads[0][n], grads[1][n]) for n in grads[0])


def test_the_balance_loss_refuses_reentrant_checkpointing(tiny, ids):
    model = adapt(tiny, balance_weight=1.0).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(AdapterError, match="no gradient under re-entrant gradient checkpointing"):
        model(input_ids=ids, labels=ids)


def test_checkpointing_captures_the_gates_once(tiny, ids):
    model = adapt(tiny).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with GateCapture(model) as capture:
        loss = model(input_ids=ids, labels=ids).loss
        gates = capture.take()
        loss.backward()
    assert gates.shape == (6, 2, 7, 3)
