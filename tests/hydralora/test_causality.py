"""Routing is per token: what else is in the batch, comes later or is cached changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from hydralora import GateCapture, HydraLoraConfig
from hydralora.tuner.gates import gate_layers
from tests.hydralora.conftest import randomise

TARGETS = ["q_proj", "v_proj", "gate_proj", "down_proj"]
KINDS = [{}, {"router_input": "Ax"}, {"shared_a": False}, {"head_mask": [1], "head_compensation": "cosine"}]


@pytest.fixture(params=KINDS, ids=str)
def adapted(request: Any, tiny: Any) -> Any:
    """The tiny Llama with routers so steep that a mixed-up token would change the answer visibly."""
    config = HydraLoraConfig(r=4, num_experts=3, target_modules=TARGETS, task_type="CAUSAL_LM", **request.param)
    model = randomise(get_peft_model(tiny, config), scale=0.05).eval()
    for layer in gate_layers(model).values():
        layer.hydralora_router["default"].weight.data *= 40 if request.param.get("router_input") == "Ax" else 10
    return model


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal to a millionth of the largest value (float32 adds in another order for another shape)."""
    limit = 1e-6 * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=limit)


@torch.inference_mode()
def run(model: Any, ids: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    """Logits ``(batch, tokens, vocabulary)`` and gates ``(layers, batch, tokens, experts)``."""
    with GateCapture(model) as capture:
        return model(input_ids=ids, **more).logits, capture.take()


def test_the_routers_here_are_steep_and_change_the_logits(adapted, ids):
    logits, gates = run(adapted, ids)
    assert gates.std(2).mean() > 0.1  # over tokens
    for layer in gate_layers(adapted).values():
        layer.hydralora_router["default"].weight.data.zero_()
    assert (run(adapted, ids)[0] - logits).abs().max() > 1e-2


def test_a_batch_mate_changes_nothing(adapted, ids):
    together, gates = run(adapted, ids)
    alone, own = run(adapted, ids[:1])
    assert_same(together[:1], alone)
    assert_same(gates[:, :1], own)


def test_a_later_token_changes_nothing(adapted, ids):
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 17) % 300
    logits, gates = run(adapted, ids)
    changed, changed_gates = run(adapted, other)
    assert_same(changed[:, :5], logits[:, :5])
    assert_same(changed_gates[:, :, :5], gates[:, :, :5])
    assert not torch.equal(changed[:, 5:], logits[:, 5:])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(adapted, ids, side):
    plain, gates = run(adapted, ids)
    width = 4 if side == "left" else 0
    sides = (4, 0) if side == "left" else (0, 4)
    padded = torch.nn.functional.pad(ids, sides)
    mask = torch.nn.functional.pad(torch.ones_like(ids), sides)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits, padded_gates = run(adapted, padded, attention_mask=mask, position_ids=positions)
    assert_same(logits[:, width : width + 7], plain)
    assert_same(padded_gates[:, :, width : width + 7], gates)


def test_decoding_with_a_cache_changes_nothing(adapted, ids):
    whole, gates = run(adapted, ids)
    cache, pieces = None, []
    for position in range(ids.shape[1]):
        with torch.inference_mode(), GateCapture(adapted) as capture:
            out = adapted(input_ids=ids[:, position : position + 1], past_key_values=cache, use_cache=True)
            pieces.append((out.logits, capture.take()))
        cache = out.past_key_values
    assert_same(torch.cat([logits for logits, _ in pieces], 1), whole)
    assert_same(torch.cat([own for _, own in pieces], 2), gates)
