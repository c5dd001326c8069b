"""Bases in 4 and 8 bits (bitsandbytes, on the CPU too): the adapter learns, is saved, comes back exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from hydralora import GateCapture, HydraLoraConfig, add_adapter, find_targets, override_experts
from hydralora.errors import AdapterError
from tests import emulated
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_architectures import train_one_step

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed, so no base can be quantised")
pytestmark = pytest.mark.skipif(DEVICE == emulated.NAME, reason="the emulated device lacks kernels of quantised layers")
BITS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
    "int8": {"load_in_8bit": True},
}
LINEAR = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}


@pytest.fixture(params=BITS)
def bits(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose layers are as wide as one block of 64 weights; some CPUs cannot pack narrower ones."""
    path = tmp_path_factory.mktemp("even")
    make_llama(width=64).save_pretrained(path)
    return path


@pytest.fixture
def load(folder: Path, bits: str) -> Any:
    """Gives a fresh quantised copy of the tiny Llama at each call."""
    return lambda: AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**BITS[bits]), device_map=DEVICE
    )


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def test_targets_are_found_and_a_new_adapter_is_the_base(load, bits, ids):
    base = load()
    assert type(base.model.layers[0].mlp.up_proj).__name__ == LINEAR[bits]
    assert find_targets(base) == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    before = logits(base, ids)
    model = add_adapter(base, "hydralora", {"r": 4, "num_experts": 3})
    assert len(model.base_model.routed_layers()) == 14 and torch.equal(logits(model, ids), before)


def test_the_loss_falls_and_the_adapter_comes_back_exactly(load, ids, tmp_path):
    model = add_adapter(prepare_model_for_kbit_training(load()), "hydralora", {"r": 4, "num_experts": 3})
    losses = []
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=2e-2)
    model.train()
    for _ in range(15):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(prepare_model_for_kbit_training(load()), tmp_path)
    assert torch.equal(logits(again, ids), expected)


def test_only_the_adapter_is_trained_and_saved(load, ids, tmp_path):
    model = add_adapter(load(), "hydralora", {"r": 4})
    base = {n: w.clone() for n, w in model.named_parameters() if not w.requires_grad}
    train_one_step(model, ids)
    assert base and all(torch.equal(w, base[n]) for n, w in model.named_parameters() if n in base)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 200_000  # bytes


def test_switching_off_gives_the_quantised_base(load, ids):
    expected = logits(load(), ids)
    model = randomise(add_adapter(load(), "hydralora", {"r": 4}))
    assert not torch.equal(logits(model, ids), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model, ids), expected)


def test_gates_are_captured_and_changed(load, ids):
    model = randomise(add_adapter(load(), "hydralora", {"r": 4, "num_experts": 3})).eval()
    with override_experts(model, {1: 0.0}), GateCapture(model) as capture:
        logits(model, ids)
        gates = capture.take()
    assert gates.shape == (14, 2, 7, 3) and gates[..., 1].abs().max() == 0 and gates[..., 0].min() > 0


def test_merging_into_a_quantised_base_is_refused_and_changes_nothing(load, ids):
    config = HydraLoraConfig(r=2, num_experts=2, combine="mean", target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = randomise(get_peft_model(load(), config))
    before = logits(model, ids)
    with pytest.raises(AdapterError, match=r"q_proj'.*quantised"):
        model.merge_and_unload()
    assert torch.equal(logits(model, ids), before)
