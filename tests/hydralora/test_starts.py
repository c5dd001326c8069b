"""How heads start, and how they are dropped: R-LoRA's offset beside the centred one, a mask for every head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from hydralora import METHODS, HydraLoraConfig, add_adapter
from hydralora.analysis.plain_lora import export_lora, uniform_gates
from hydralora.errors import AdapterError
from tests.hydralora.conftest import make_llama, randomise
from tests.hydralora.test_layer import EXACT, WIDE, by_loop, make_layer

OFFSET = {"head_init": "offset", "head_init_gamma": 4.0}
FORMS = [{}, {"shared_a": False}, {"combine": "sum"}, {"combine": "mean"}, {"combine": "mean", "shared_a": False}]


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def step(model: Any, ids: Tensor) -> None:
    """One step of plain gradient descent."""
    model.train()(input_ids=ids, labels=ids).loss.backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= 0.5 * weight.grad


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_offset_start_is_the_base_though_no_head_is_zero(form):
    layer = make_layer(trained=False, router_init="zero", **OFFSET, **form)
    x = torch.randn(5, WIDE)
    torch.testing.assert_close(layer(x), layer.base_layer(x), **EXACT)
    assert layer.hydralora_B["default"].weight.abs().min() > 0


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_after_training_the_layer_is_its_loop_less_what_it_was_at_the_start(form):
    layer = make_layer(trained=False, router_init="zero", **OFFSET, **form)
    x = torch.randn(5, WIDE)
    at_start = by_loop(layer, x) - layer.base_layer(x)
    for weight in layer.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn_like(weight)
    torch.testing.assert_close(layer(x), by_loop(layer, x) - at_start, **EXACT)


def test_a_kaiming_router_as_in_the_released_code_does_not_start_at_the_base():
    layer, x = make_layer(trained=False, router_init="kaiming", **OFFSET), torch.randn(5, WIDE)
    assert (layer(x) - layer.base_layer(x)).abs().max() > 1e-3


def test_an_offset_is_saved_loaded_and_never_trained(tiny, load_tiny, ids, tmp_path):
    model = add_adapter(tiny, "r_lora", {"r": 4, "num_experts": 3, **OFFSET})
    torch.testing.assert_close(logits(model, ids), logits(load_tiny(), ids), rtol=1e-4, atol=1e-5)
    start = {name: value.clone() for name, value in model.named_buffers() if "hydralora_start" in name}
    assert len(start) == 2 * 14 and not any("hydralora_start" in name for name, _ in model.named_parameters())
    step(model, ids)
    assert all(torch.equal(value, dict(model.named_buffers())[name]) for name, value in start.items())
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum("hydralora_start.first_" in name for name in saved) == 28
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path)
    assert torch.equal(logits(loaded, ids), logits(model, ids))
    assert (logits(loaded, ids) - logits(load_tiny(), ids)).abs().max() > 1e-3


def test_an_offset_on_a_bfloat16_base_is_that_of_the_rounded_matrices(load_tiny, ids):
    base = load_tiny().to(torch.bfloat16)
    before = logits(base, ids)
    model = add_adapter(base, "r_lora", {"r": 4, **OFFSET})
    torch.testing.assert_close(logits(model, ids), before, rtol=0.02, atol=0.02)


def test_a_second_adapter_has_a_start_of_its_own_and_deleting_takes_it_along(tiny, ids):
    model = add_adapter(tiny, "r_lora", {"r": 4, **OFFSET})
    model.add_adapter("second", HydraLoraConfig(r=2, target_modules=["q_proj"], router_init="zero", **OFFSET))
    layer = model.base_model.routed_layers()[0]
    assert set(layer.hydralora_start) == {"default", "second"}
    model.delete_adapter("default")
    assert set(layer.hydralora_start) == {"second"}


def test_a_merge_takes_the_offset_off_too(tiny, ids):
    config = HydraLoraConfig(r=4, target_modules=["q_proj", "down_proj"], combine="mean", **OFFSET)
    model = get_peft_model(tiny, config)
    step(model, ids)
    before = logits(model, ids)
    torch.testing.assert_close(logits(model.merge_and_unload(), ids), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_a_plain_lora_holds_the_offset(shared, tiny, load_tiny, ids, tmp_path):
    config = HydraLoraConfig(
        r=4, target_modules=["q_proj"], combine="mean", shared_a=shared, task_type="CAUSAL_LM", **OFFSET
    )
    model = get_peft_model(tiny, config)
    step(model, ids)
    before = logits(model, ids)
    export_lora(model, tmp_path, uniform_gates(model))
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(load_tiny(), tmp_path), ids), before, rtol=1e-3, atol=1e-4
    )


def first_gradients(start: str, ids: Tensor) -> tuple[float, float]:
    """Mean cosine of two heads, and the length of A's first gradient, of a layer in the middle."""
    options = {"r": 4, "num_experts": 2, "lora_dropout": 0.0, "head_init": start}
    model = add_adapter(make_llama(), "r_lora", options)
    model.train()(input_ids=ids, labels=ids).loss.backward()
    layer = model.base_model.routed_layers()[3]
    heads = layer.hydralora_B["default"].weight.view(layer.out_features, 2, 4)
    cosine = functional.cosine_similarity(heads[:, 0].flatten(), heads[:, 1].flatten(), dim=0)
    return cosine.item(), layer.hydralora_A["default"].weight.grad.norm().item()


def test_centring_makes_two_heads_opposite_and_leaves_a_without_a_first_gradient(ids):
    cosine, gradient = first_gradients("centred", ids)
    assert cosine == pytest.approx(-1.0, abs=1e-5) and gradient < 1e-6
    cosine, gradient = first_gradients("offset", ids)
    assert abs(cosine) < 0.3 and gradient > 1e-4


def test_the_preset_of_the_equations_has_scale_one_as_they_do(tiny):
    preset = METHODS["hydralora"].presets["paper equations"]
    model = add_adapter(tiny, "hydralora", preset)
    assert {layer.scaling["default"] for layer in model.base_model.routed_layers()} == {1.0}


def authors_loop(layer: Any, x: Tensor) -> Tensor:
    """The authors' training forward: dropout and A anew for every head."""
    a, b = layer.hydralora_A["default"].weight, layer.hydralora_B["default"].weight
    count, rank = layer.num_experts["default"], layer.r["default"]
    gates = (x @ layer.hydralora_router["default"].weight.T).softmax(-1)
    result = layer.base_layer(x)
    for i in range(count):
        own = a if layer.options["default"].shared_a else a[i * rank : (i + 1) * rank]
        update = functional.dropout(x, 0.5) @ own.T @ b.view(-1, count, rank)[:, i].T
        result = result + gates[..., i : i + 1] * update * layer.scaling["default"]
    return result


@pytest.mark.parametrize("shared", [True, False])
def test_a_mask_for_every_head_is_the_authors_loop_draw_for_draw(shared):
    layer = make_layer(dropout_place="input_per_head", lora_dropout=0.5, shared_a=shared).train()
    x = torch.randn(2, 5, WIDE)
    torch.manual_seed(7)
    expected = authors_loop(layer, x)
    torch.manual_seed(7)
    torch.testing.assert_close(layer(x), expected, **EXACT)
    torch.testing.assert_close(layer.eval()(x), by_loop(layer, x), **EXACT)


def test_a_router_that_reads_ax_sees_it_without_a_mask_of_one_head():
    layer = make_layer(dropout_place="input_per_head", lora_dropout=0.5, router_input="Ax").train()
    layer.capture = True
    x = torch.randn(5, WIDE)
    layer(x)
    drawn = layer.kept_gates.pop()
    layer.eval()(x)
    torch.testing.assert_close(drawn, layer.kept_gates.pop(), **EXACT)


def test_per_head_masks_break_the_symmetry_of_zero_heads_and_a_zero_router(ids):
    config = HydraLoraConfig(
        r=4, target_modules=["q_proj"], router_init="zero", dropout_place="input_per_head", lora_dropout=0.3
    )
    model = get_peft_model(make_llama(), config)
    step(model, ids)
    layer = model.base_model.routed_layers()[0]
    heads = layer.hydralora_B["default"].weight.view(layer.out_features, 4, 4)
    assert (heads[:, 0] - heads[:, 1]).abs().max() > 0


@pytest.mark.parametrize(("settings", "sentence"), [({"head_init": "random"}, "zero, centred, offset, got 'random'")])
def test_another_start_is_refused_with_those_there_are(settings, sentence):
    with pytest.raises(AdapterError, match=sentence):
        HydraLoraConfig(**settings)


def test_a_randomised_offset_adapter_is_the_same_by_batch_and_alone(tiny, ids):
    model = randomise(add_adapter(tiny, "r_lora", {"r": 4, **OFFSET}))
    together = logits(model, ids)
    torch.testing.assert_close(together[:1], logits(model, ids[:1]), rtol=1e-4, atol=1e-5)
