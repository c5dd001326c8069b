"""Heads beside experts that a base stacks into parameters, for every family that does, against the formula by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    set_seed,
)

from hydralora import GateCapture, HydraLoraConfig, choose_heads, override_experts
from hydralora.adapters.imports import check_base_is_left_alone
from hydralora.analysis.plain_lora import export_lora, uniform_gates
from hydralora.errors import AdapterError
from hydralora.tuner.experts import HydraLoraExperts
from tests.hydralora.conftest import DEVICE, make_llama, randomise

BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def mixtral() -> Any:
    return MixtralForCausalLM(MixtralConfig(**SMALL, intermediate_size=24, num_local_experts=4))


def qwen3_moe() -> Any:
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SMALL, intermediate_size=24, moe_intermediate_size=12, num_experts=4, head_dim=8)
    )


def olmoe() -> Any:
    return OlmoeForCausalLM(OlmoeConfig(**SMALL, intermediate_size=12, num_experts=4))


def gpt_oss() -> Any:
    return GptOssForCausalLM(GptOssConfig(**SMALL, intermediate_size=24, num_local_experts=4, head_dim=8))


def deepseek_v3() -> Any:
    sizes = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
    groups = {"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1}
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(**SMALL, **sizes, **groups, intermediate_size=24, moe_intermediate_size=12)
    )


FAMILIES = [mixtral, qwen3_moe, olmoe, gpt_oss, deepseek_v3]
IDS = torch.randint(3, 64, (2, 7), generator=torch.Generator().manual_seed(3))


def make(family: Callable[[], Any] = mixtral) -> Any:
    set_seed(0)
    model = family().eval().to(DEVICE)
    for name, weight in model.named_parameters():  # some families leave these empty
        if "experts" in name or "gate.weight" in name or "router" in name:
            nn.init.normal_(weight, std=0.2)
    return model.requires_grad_(False)


def adapt(base: Any, *, random: bool = True, **settings: Any) -> Any:
    values = {"r": 2, "num_experts": 3, "lora_alpha": 4.0, "target_parameters": BOTH, "task_type": "CAUSAL_LM"}
    model = get_peft_model(base, HydraLoraConfig(**{**values, **settings}))
    return randomise(model, scale=0.3).eval() if random else model.eval()


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS.to(DEVICE)).logits


def layers_of(model: Any) -> list[HydraLoraExperts]:
    return [module for module in model.modules() if isinstance(module, HydraLoraExperts)]


def with_gates(layer: HydraLoraExperts, gates: Tensor) -> nn.Module:
    """The base's own module with ``W_e + s sum_i g_i B_ie A_ie`` in place of its weights, ``gates`` ``(N,)``."""
    twin, options = copy.deepcopy(layer.base_layer), layer.options["default"]
    count = layer.num_experts["default"]
    for each, a in layer.hydralora_A["default"].items():
        weight, b = twin.get_parameter(each), layer.hydralora_B["default"][each]
        rank = layer.r["default"][each]
        for e in range(len(weight)):
            delta = sum(
                gates[i]
                * b[e][:, i * rank : (i + 1) * rank]
                @ (a[e] if options.shared_a else a[e].view(count, rank, -1)[i])
                for i in range(count)
            ) * (4.0 / rank)
            weight.data[e] += delta.detach().T if twin.is_transposed else delta.detach()
    return twin


def inputs_of(layer: HydraLoraExperts) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, and two experts with weights for each."""
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(9, 16, generator=generator).to(DEVICE)
    index = torch.stack([torch.randperm(4, generator=generator)[:2] for _ in range(9)]).to(DEVICE)
    return hidden, index, torch.rand(9, 2, generator=generator).to(DEVICE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_is_the_base(family):
    base = make(family)
    before = logits(base)
    model = adapt(base, random=False)
    assert len(layers_of(model)) == (1 if family is deepseek_v3 else 2)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"shared_a": False}, {"top_k": 1}, {"temperature": 2.0}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_is_computed_with_the_weights_that_its_own_gates_make(family, settings):
    layer = layers_of(adapt(make(family), **settings))[0]
    hidden, index, weights = inputs_of(layer)
    scores = hidden @ layer.hydralora_router["default"].weight.T / settings.get("temperature", 1.0)
    if settings.get("top_k"):
        scores = torch.where(scores == scores.max(-1, keepdim=True).values, scores, float("-inf"))
    gates = scores.softmax(-1)
    with torch.no_grad():
        found = layer(hidden, index, weights)
        expected = torch.cat(
            [with_gates(layer, gates[t])(hidden[t : t + 1], index[t : t + 1], weights[t : t + 1]) for t in range(9)]
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "fixed", [{"combine": "mean"}, {"combine": "sum"}, {"num_experts": 1}, {"gate": "uniform"}], ids=str
)
@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_gates_merge_exactly_and_come_off_again(family, fixed):
    model = adapt(make(family), **fixed)
    before, base = logits(model), logits(make(family))
    assert (before - base).abs().max() > 1e-2
    model.merge_adapter()
    torch.testing.assert_close(logits(model), before, rtol=1e-3, atol=1e-4)
    model.unmerge_adapter()
    torch.testing.assert_close(logits(model), before, rtol=1e-3, atol=1e-4)
    merged = model.merge_and_unload()
    assert not layers_of(merged)
    torch.testing.assert_close(logits(merged), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_of_the_bases_own_kernels_gives_what_heads_merged_into_it_give(family, implementation):
    model = adapt(make(family), combine="mean")
    before = logits(model)
    merged = model.merge_and_unload()
    merged.set_experts_implementation(implementation)
    torch.testing.assert_close(logits(merged), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_routed_adapter_is_refused_to_be_merged_before_any_weight_is_touched(family):
    model = adapt(make(family))
    before = logits(model)
    with pytest.raises(AdapterError, match=r"Layer 'model.layers.\d.mlp.experts' is routed per token"):
        model.merge_adapter()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_matrix_and_the_router_and_nothing_of_the_base(family):
    model = adapt(make(family)).train()
    model(input_ids=IDS.to(DEVICE), labels=IDS.to(DEVICE)).loss.backward()
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert all("hydralora_" in name for name in grads)
    assert {name.split("hydralora_")[1] for name in grads} == {
        "router.default.weight",
        *(f"{part}.default.{each}" for part in "AB" for each in ("gate_up_proj", "down_proj")),
    }
    assert all(grad.abs().max() > 0 for grad in grads.values())


def test_the_gradients_are_those_of_finite_differences():
    layer = layers_of(adapt(make(gpt_oss).double()))[0].double()
    hidden, index, weights = inputs_of(layer)
    hidden = hidden.double().requires_grad_()
    tensors = [hidden, layer.hydralora_router["default"].weight, *layer.hydralora_A["default"].values()]

    def compute(*_: Tensor) -> Tensor:
        return layer(hidden, index, weights.double())

    assert torch.autograd.gradcheck(compute, tensors, fast_mode=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_saved_and_comes_back_exactly(family, tmp_path):
    model = adapt(make(family))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make(family), tmp_path).eval()
    assert torch.equal(logits(loaded), logits(model))
    lean = PeftModel.from_pretrained(make(family), tmp_path, low_cpu_mem_usage=True).eval()
    torch.testing.assert_close(logits(lean), logits(model), rtol=1e-5, atol=1e-5)  # its weights lie elsewhere
    saved, found = (get_peft_model_state_dict(each) for each in (model, lean))
    assert saved.keys() == found.keys() and all(torch.equal(saved[name], found[name]) for name in saved)
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(make(family)))


def test_one_head_equals_pefts_lora_with_the_same_matrices():
    """PEFT keeps A as ``(E r, in)`` and B as ``(out, r E)``."""
    ours = adapt(make(), num_experts=1, target_parameters=BOTH[:1])
    theirs = get_peft_model(make(), LoraConfig(r=2, lora_alpha=4, target_parameters=BOTH[:1], target_modules=[]))
    for layer in layers_of(ours):
        twin = theirs.base_model.model.get_submodule(layer.name)
        a, b = (part["default"]["gate_up_proj"].data for part in (layer.hydralora_A, layer.hydralora_B))
        twin.lora_A["default"].weight.data = a.flatten(0, 1).clone()
        twin.lora_B["default"].weight.data = b.permute(1, 2, 0).flatten(1).clone()
    torch.testing.assert_close(logits(theirs.eval()), logits(ours), rtol=1e-4, atol=1e-5)


def test_linear_layers_and_experts_learn_together(tmp_path):
    model = adapt(make(), target_modules=["q_proj"])
    assert len(model.base_model.routed_layers()) == 2 and len(layers_of(model)) == 2
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(make(), tmp_path).eval()), logits(model))


def test_a_second_adapter_is_added_switched_to_and_deleted(tmp_path):
    model = adapt(make())
    first = logits(model)
    model.add_adapter("second", HydraLoraConfig(r=1, num_experts=2, target_parameters=["experts.down_proj"]))
    model.set_adapter("second")
    torch.testing.assert_close(logits(model), logits(make()), rtol=1e-4, atol=1e-5)
    randomise(model, seed=2)
    assert not torch.allclose(logits(model), first, atol=1e-3)
    model.base_model.set_adapter(["default", "second"])
    assert torch.isfinite(logits(model)).all()
    model.delete_adapter("second")
    assert set(layers_of(model)[0].hydralora_A) == {"default"}
    assert torch.equal(logits(model), first)


def test_ranks_are_chosen_by_the_parameters_names():
    model = adapt(make(), rank_pattern={"down_proj": 1}, alpha_pattern={"gate_up_proj": 6.0})
    layer = layers_of(model)[0]
    assert layer.r["default"] == {"gate_up_proj": 2, "down_proj": 1}
    assert layer.scaling["default"] == {"gate_up_proj": 3.0, "down_proj": 4.0}


def test_gates_are_shown_by_example_and_can_be_forced():
    model = adapt(make())
    with GateCapture(model) as capture:
        logits(model)
        gates = capture.take()
    assert gates.shape == (2, 2, 7, 3)
    torch.testing.assert_close(gates.sum(-1), torch.ones(2, 2, 7, device=DEVICE))
    with override_experts(model, {}, force=1), GateCapture(model) as capture:
        logits(model)
        assert torch.equal(capture.take()[..., 1], torch.ones(2, 2, 7, device=DEVICE))


def test_hard_heads_belong_to_the_tasks_of_the_examples():
    model = adapt(make(), combine="hard")
    alone = []
    for head in (2, 0):
        with override_experts(model, {}, force=head):
            alone.append(logits(model))
    choose_heads(model, torch.tensor([2, 0]))
    torch.testing.assert_close(logits(model), torch.stack([alone[0][0], alone[1][1]]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"balance_weight": 1.0}, {"z_weight": 1.0}, {"task_weight": 1.0}], ids=str)
def test_losses_of_the_router_reach_the_loss(settings):
    choose_heads(model := adapt(make(), **settings).train(), torch.tensor([0, 2]))
    found = model(input_ids=IDS, labels=IDS).loss - adapt(make()).train()(input_ids=IDS, labels=IDS).loss
    assert found > 1e-3


def test_a_block_shares_one_router_with_its_attention():
    model = adapt(make(), target_modules=["q_proj"], router_scope="block")
    with GateCapture(model) as capture:
        logits(model)
        gates = capture.take()  # q_proj and experts of two blocks
    assert torch.equal(gates[0], gates[1]) and not torch.allclose(gates[0], gates[2], atol=1e-3)
    assert sum("router" in name and "hydralora" in name for name, _ in model.named_parameters()) == 2


@pytest.mark.parametrize("place", ["input", "input_per_head", "heads"])
def test_dropout_acts_in_training_alone(place):
    model = adapt(make(), lora_dropout=0.5, dropout_place=place)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


def test_checkpointing_gives_the_same_gradients():
    found = []
    for checkpointing in (False, True):
        model = adapt(make()).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(input_ids=IDS, labels=IDS).loss.backward()
        found.append({name: w.grad for name, w in model.named_parameters() if w.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_bfloat16_base_keeps_its_type_and_a_float32_adapter():
    model = adapt(make().to(torch.bfloat16))
    assert {weight.dtype for name, weight in model.named_parameters() if "hydralora_" in name} == {torch.float32}
    exact = logits(adapt(make()))
    assert logits(model).dtype == torch.bfloat16
    assert functional.cosine_similarity(logits(model).float().flatten(), exact.flatten(), dim=0) > 0.99


def test_generating_with_a_cache_gives_what_one_pass_gives():
    model = adapt(make())
    tokens = model.generate(input_ids=IDS[:1].to(DEVICE), max_new_tokens=5, do_sample=False, eos_token_id=None)
    with torch.inference_mode():
        again = model(input_ids=tokens).logits[0, 6:-1].argmax(-1)
    assert torch.equal(again, tokens[0, 7:])


REFUSED = [
    ({"router_input": "Ax"}, r"experts': `router_input` Ax is not for stacked experts: its A x is another .* use x"),
    ({"router_input": "pooled"}, "`router_input` pooled is not for stacked experts"),
    ({"head_init": "offset"}, "`head_init` offset is not for stacked experts.* use centred or zero"),
    ({"head_mask": [1], "head_compensation": "cosine"}, "`head_compensation` cosine is not for stacked experts"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=str)
def test_an_option_that_experts_cannot_have_is_refused_with_layer_and_way_out(settings, sentence):
    with pytest.raises(AdapterError, match=sentence):
        adapt(make(), **settings)


def test_a_parameter_that_no_expert_multiplies_with_is_refused():
    with pytest.raises(
        AdapterError, match=r"gate_up_proj_bias', which no expert multiplies with. Name gate_up_proj, down"
    ):
        adapt(make(gpt_oss), target_parameters=["experts.gate_up_proj_bias"])


def test_a_parameter_of_something_else_is_refused_with_its_kind():
    with pytest.raises(
        AdapterError, match=r"q_proj', a Linear, which transformers does not describe as stacked experts"
    ):
        adapt(make_llama(), target_parameters=["q_proj.weight"])


def test_quantised_experts_are_refused_with_their_type():
    base = make()
    experts = base.model.layers[0].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj.to(torch.uint8), requires_grad=False)
    with pytest.raises(AdapterError, match=r"down_proj' is torch.uint8 of shape .* Load the base unquantised"):
        adapt(base)


def test_a_name_that_matches_nothing_is_refused_by_peft():
    with pytest.raises(ValueError, match="target_parameters"):
        adapt(make(), target_parameters=["experts.middle_proj"])


def test_examples_with_adapters_of_their_own_are_refused_in_a_sentence():
    model = adapt(make())
    with pytest.raises(AdapterError, match=r"experts' sees tokens and not examples, so `adapter_names`"):
        model(input_ids=IDS, adapter_names=["default", "__base__"])


def test_experts_spread_over_devices_are_refused_in_a_sentence():
    model = adapt(make())
    layers_of(model)[0].base_layer._is_expert_parallel = True
    with pytest.raises(AdapterError, match="is spread over devices by expert"):
        logits(model)


def test_a_plain_lora_does_not_leave_experts_out_silently(tmp_path):
    model = adapt(make(), target_modules=["q_proj"], combine="mean")
    with pytest.raises(AdapterError, match=r"heads beside stacked experts \(`target_parameters`\)"):
        export_lora(model, tmp_path, uniform_gates(model))


def test_an_adapter_from_elsewhere_with_stacked_experts_is_not_taken_in():
    with pytest.raises(AdapterError, match="`target_parameters` is set"):
        check_base_is_left_alone({"target_parameters": BOTH})
