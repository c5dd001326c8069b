"""Layers that can have heads get them, a mixture's own routers never, and what cannot is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, set_seed

from hydralora import HydraLoraConfig, add_adapter, find_targets
from hydralora.errors import AdapterError
from tests.hydralora.conftest import make_llama, randomise
from tests.hydralora.test_architectures import ARCHITECTURES

SIZES = ARCHITECTURES["Mistral"]
TWO = {"num_experts_per_tok": 2}
NARROW = {"moe_intermediate_size": 8, "decoder_sparse_step": 1}
PARTS = {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "q_lora_rank": 8, "kv_lora_rank": 8}
MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 3, **TWO},
    "Qwen2Moe": {"num_experts": 3, "shared_expert_intermediate_size": 8, **TWO, **NARROW},
    "Qwen3Moe": {"num_experts": 3, "head_dim": 8, **TWO, **NARROW},
    "Olmoe": {"num_experts": 3, **TWO},
    "GptOss": {"num_local_experts": 3, "head_dim": 8, **TWO},
    "DeepseekV3": {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, **TWO, **PARTS},
    "Llama4Text": {"num_local_experts": 3, "head_dim": 8, "intermediate_size_mlp": 16},
}
EXPERTS = {
    "Mixtral": "mlp.experts",
    "Qwen2Moe": "mlp.experts",
    "Qwen3Moe": "mlp.experts",
    "Olmoe": "mlp.experts",
    "GptOss": "mlp.experts",
    "DeepseekV3": "mlp.experts",
    "Llama4Text": "feed_forward.experts",
}
OWN_ROUTER = {"GptOss": "router", "Llama4Text": "router"}  # "gate" elsewhere


def make(name: str) -> Any:
    set_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **MIXTURES[name]})
    return AutoModelForCausalLM.from_config(config).eval()


def adapted_names(model: Any) -> set[str]:
    return {layer.name.rsplit(".", 1)[-1] for layer in model.base_model.routed_layers()}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("way", ["found", "all-linear"])
def test_routers_of_a_mixture_are_no_targets(name, way, tmp_path):
    base = make(name)
    if way == "found":
        model = add_adapter(base, "hydralora", {"r": 1})
    else:
        model = get_peft_model(base, HydraLoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert not adapted_names(model) & {"gate", "router", "shared_expert_gate"} and "o_proj" in adapted_names(model)
    model.save_pretrained(tmp_path)
    assert adapted_names(PeftModel.from_pretrained(make(name), tmp_path)) == adapted_names(model)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_router_that_is_named_is_refused(name):
    config = HydraLoraConfig(r=1, target_modules=["o_proj", OWN_ROUTER.get(name, "gate")])
    with pytest.raises(AdapterError, match="is a router between the base's own experts"):
        get_peft_model(make(name), config)


def test_the_gate_of_shared_experts_is_refused_by_name_too():
    with pytest.raises(AdapterError, match=r"mlp.shared_expert_gate' is a router between"):
        get_peft_model(make("Qwen2Moe"), HydraLoraConfig(r=1, target_modules=["shared_expert_gate"]))
    assert "shared_expert_gate" not in find_targets(make("Qwen2Moe"))


@pytest.mark.parametrize("name", MIXTURES)
def test_stacked_experts_are_refused_with_what_takes_them(name):
    config = HydraLoraConfig(r=1, target_modules=[EXPERTS[name]])
    with pytest.raises(AdapterError, match=r"experts stacked into one parameter, not linear layers\. Name"):
        get_peft_model(make(name), config)


def test_a_layer_called_gate_without_experts_is_a_layer_like_any_other():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = nn.Linear(4, 6), nn.Linear(4, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gate(x).sigmoid() * self.up(x)

    model = get_peft_model(Gated(), HydraLoraConfig(r=2, target_modules=["gate"]))
    assert adapted_names(model) == {"gate"}


def test_experts_that_are_computed_all_for_all_tokens_are_refused_by_name():
    config = HydraLoraConfig(r=1, target_parameters=["experts.gate_up_proj"])
    with pytest.raises(AdapterError, match=r"experts', a Llama4TextExperts, which transformers does not describe as"):
        get_peft_model(make("Llama4Text"), config)


OTHERS = {
    "Embedding": nn.Embedding(5, 4),
    "Conv2d": nn.Conv2d(3, 4, 1),
    "Conv1d": nn.Conv1d(3, 4, 1),
    "Bilinear": nn.Bilinear(3, 4, 5),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_layers_are_refused_by_what_they_are(kind):
    with pytest.raises(AdapterError, match=f"Layer 'other' is a {kind}; only linear layers can be adapted"):
        get_peft_model(nn.ModuleDict({"other": OTHERS[kind]}), HydraLoraConfig(r=2, target_modules=["other"]))


def test_a_layer_that_is_never_called_is_refused():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2)})
    with pytest.raises(AdapterError, match=r"Layer 'attention.out_proj' is never called"):
        get_peft_model(model, HydraLoraConfig(r=2, target_modules=["out_proj"]))


def test_rows_of_the_embeddings_are_trained_beside_and_come_back(ids, tmp_path):
    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(make_llama(), HydraLoraConfig(**settings, trainable_token_indices=[7, 9]))
    randomise(model).eval()
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make_llama(), tmp_path).eval()
    changed = ids.clone()
    changed[:, 0] = 7
    with torch.inference_mode():
        found, with_7 = model(input_ids=ids).logits, model(input_ids=changed).logits
        assert torch.equal(again(input_ids=changed).logits, with_7)
        with model.disable_adapter():
            torch.testing.assert_close(model(input_ids=changed).logits, make_llama()(input_ids=changed).logits)
    assert not torch.allclose(found, with_7) and sum("trainable_tokens" in n for n, _ in model.named_parameters()) == 1


def test_adapters_are_not_added_up_in_our_words():
    model = get_peft_model(make_llama(), HydraLoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(AdapterError, match="Routed adapters cannot be added up into one: each has gates of its own"):
        model.add_weighted_adapter(["default"], [1.0], "sum")
