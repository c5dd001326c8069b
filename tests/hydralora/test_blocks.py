"""One router for all adapted layers of a block."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, OPTConfig, OPTForCausalLM, set_seed

from hydralora import GateCapture, HydraLoraConfig, add_adapter, count_parameters, override_experts
from hydralora.errors import AdapterError
from hydralora.tuner.blocks import block_of
from tests.hydralora.conftest import make_llama, randomise

TARGETS = ["q_proj", "v_proj", "up_proj", "down_proj"]


def adapt(base: Any = None, **settings: Any) -> Any:
    values = {"r": 4, "num_experts": 3, "target_modules": TARGETS, "router_scope": "block", **settings}
    return randomise(get_peft_model(make_llama() if base is None else base, HydraLoraConfig(**values)), scale=0.5)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def gates_of(model: Any, ids: Tensor) -> dict[str, Tensor]:
    with GateCapture(model) as capture, torch.no_grad():
        model(input_ids=ids)
        return capture.take_each()


@pytest.mark.parametrize(
    ("name", "source", "block"),
    [
        ("model.layers.3.self_attn.q_proj", False, "model.layers.3"),
        ("model.layers.3.mlp.experts.5.up_proj", False, "model.layers.3.mlp.experts.5"),
        ("decoder.block.0.layer.1.EncDecAttention.k", True, "decoder.block.0.layer.1 (source)"),
        ("lin0", False, ""),
        ("net.0", False, ""),
    ],
)
def test_a_block_is_the_innermost_numbered_module_around_a_layer(name, source, block):
    assert block_of(name, source) == block


@pytest.mark.parametrize("router_input", ["x", "Ax", "pooled"])
def test_the_layers_of_a_block_take_the_gates_of_the_first(router_input, ids):
    gates = gates_of(adapt(router_input=router_input).eval(), ids)
    for block in ("0", "1"):
        mine = [found for name, found in gates.items() if f"layers.{block}." in name]
        assert len(mine) == 4 and all(torch.equal(found, mine[0]) for found in mine)
    assert not torch.allclose(*(gates[f"model.layers.{i}.self_attn.q_proj"] for i in (0, 1)), atol=1e-3)


def test_they_are_those_of_the_first_layers_own_router(ids):
    shared, apart = adapt(), adapt(router_scope="layer")
    first = "model.layers.0.self_attn.q_proj"
    weights = [
        model.base_model.model.get_submodule(first).hydralora_router["default"].weight for model in (shared, apart)
    ]
    weights[1].data.copy_(weights[0].data)
    torch.testing.assert_close(gates_of(shared.eval(), ids)[first], gates_of(apart.eval(), ids)[first])


def test_a_block_has_one_router_and_all_of_it_learns(ids):
    model = adapt().train()
    routers = {name: weight for name, weight in model.named_parameters() if "router" in name}
    assert [name.split("model.layers.")[1] for name in routers] == [
        f"{i}.self_attn.q_proj.hydralora_router.default.weight" for i in (0, 1)
    ]
    assert count_parameters(model).router == 2 * 3 * 32
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad.abs().max() > 0 for name, weight in model.named_parameters() if "hydralora_" in name)


def test_the_gradient_of_a_shared_router_is_that_of_all_its_layers(ids):
    """Against a finite difference of the loss."""
    model = adapt().train()
    router = model.base_model.model.model.layers[0].self_attn.q_proj.hydralora_router["default"].weight
    model(input_ids=ids, labels=ids).loss.backward()
    step, losses = 1e-2, []
    for sign in (1, -1):
        router.data[1, 3] += sign * step
        losses.append(model(input_ids=ids, labels=ids).loss.item())
        router.data[1, 3] -= sign * step
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(router.grad[1, 3].item(), rel=2e-2)


def test_it_is_saved_and_comes_back_exactly(load_tiny, ids, tmp_path):
    model = adapt(load_tiny())
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(load_tiny(), tmp_path)
    assert loaded.peft_config["default"].router_scope == "block"
    assert torch.equal(logits(loaded, ids), logits(model, ids))


def test_a_copy_shares_its_own_routers(ids):
    model = adapt()
    before = logits(model, ids)
    twin = copy.deepcopy(model)
    for name, weight in model.named_parameters():
        if "router" in name:
            weight.data.zero_()
    assert torch.equal(logits(twin, ids), before) and not torch.allclose(logits(model, ids), before, atol=1e-3)


def test_two_adapters_have_routers_of_their_own_and_one_put_in_again_begins_anew(ids):
    model = adapt()
    first = logits(model, ids)
    more = HydraLoraConfig(r=2, num_experts=2, target_modules=["v_proj", "up_proj"], router_scope="block")
    model.add_adapter("more", more)
    randomise(model)
    model.set_adapter("more")
    second = logits(model, ids)
    owners = [name for name, _ in model.named_parameters() if "router.more" in name]
    assert len(owners) == 2 and all("v_proj" in name for name in owners)
    model.base_model.set_adapter(["default", "more"])
    logits(model, ids)
    model.delete_adapter("more")
    model.add_adapter("more", HydraLoraConfig(r=2, num_experts=2, target_modules=["up_proj"], router_scope="block"))
    model.set_adapter("more")
    assert not torch.equal(second, first) and torch.isfinite(logits(model, ids)).all()


def test_checkpointing_gives_the_same_gradients(ids):
    found = []
    for checkpointing in (False, True):
        model = adapt(balance_weight=0.5).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(input_ids=ids, labels=ids).loss.backward()
        found.append({name: w.grad for name, w in model.named_parameters() if w.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_losses_of_a_shared_router_count_once_for_each_block(ids):
    model = adapt(z_weight=1.0).train()
    plain = adapt().train()
    blocks = [gates for name, gates in gates_of(model, ids).items() if "q_proj" in name]
    assert len(blocks) == 2
    routers = [layer for layer in model.base_model.routed_layers() if "default" in layer.hydralora_router]
    seen: list[Tensor] = []
    hooks = [
        layer.hydralora_router["default"].register_forward_hook(lambda _, __, out: seen.append(out))
        for layer in routers
    ]
    found = model(input_ids=ids, labels=ids).loss - plain(input_ids=ids, labels=ids).loss
    expected = torch.stack([out.logsumexp(-1).square().mean() for out in seen]).mean()
    assert len(hooks) == len(seen) == 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_generating_with_a_cache_gives_what_one_pass_gives(ids):
    model = adapt().eval()
    tokens = model.generate(input_ids=ids[:1], max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert torch.equal(logits(model, tokens)[0, 6:-1].argmax(-1), tokens[0, 7:])


def test_one_expert_can_be_forced_in_one_layer_of_a_block(ids):
    model = adapt().eval()
    name = "model.layers.0.mlp.up_proj"
    with override_experts(model, {}, force={name: 1}):
        gates = gates_of(model, ids)
    assert torch.equal(gates[name][..., 1], torch.ones(2, 7))
    assert gates["model.layers.0.mlp.down_proj"][..., 1].max() < 1


def test_a_batch_of_several_adapters_takes_each_ones_own_gates(load_tiny, ids):
    model = adapt(load_tiny())
    model.add_adapter("other", HydraLoraConfig(r=4, num_experts=3, target_modules=TARGETS, router_scope="block"))
    randomise(model.eval())
    with torch.inference_mode():
        mixed = model(input_ids=ids, adapter_names=["other", "default"]).logits
    for row, name in enumerate(["other", "default"]):
        model.set_adapter(name)
        torch.testing.assert_close(mixed[row], logits(model, ids)[row], rtol=1e-4, atol=1e-4)


def test_layers_that_are_called_in_another_order_than_they_stand_in_share_too(ids):
    set_seed(0)
    small = dict(vocab_size=320, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4)
    base = OPTForCausalLM(OPTConfig(**small, word_embed_proj_dim=32, max_position_embeddings=32))
    gates = gates_of(adapt(base, target_modules=["k_proj", "q_proj", "fc1", "fc2"]).eval(), ids)
    mine = [found.reshape(-1) for name, found in gates.items() if "layers.0." in name]
    assert len(mine) == 4 and all(torch.equal(found, mine[0]) for found in mine)


def test_a_decoders_view_of_the_source_is_a_block_of_its_own():
    set_seed(0)
    base = BartForConditionalGeneration(
        BartConfig(
            vocab_size=60,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=32,
        )
    )
    model = adapt(base, target_modules=["q_proj", "k_proj", "v_proj", "fc1"]).train()
    owners = [name for name, _ in model.named_parameters() if "router" in name]
    assert len(owners) == 3 and sum("encoder_attn.k_proj" in name for name in owners) == 1
    source, target = torch.randint(4, 60, (2, 9)), torch.randint(4, 60, (2, 5))
    model(input_ids=source, labels=target).loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "router" in name)
    model.eval().generate(input_ids=source, max_new_tokens=4)


class Narrowing(nn.Module):
    """Two linear layers, the second of which sees fewer rows, or is called first."""

    def __init__(self, *, backwards: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.backwards = nn.Linear(6, 8), nn.Linear(8, 6), backwards

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.two(x)) if self.backwards else self.two(self.one(x)[:2])


def test_a_layer_that_sees_other_tokens_is_refused_by_name():
    model = adapt(Narrowing(), target_modules=["one", "two"])
    with pytest.raises(
        AdapterError, match=r"'two' takes the gates of 'one', which were computed for 5 tokens, but it reads 2"
    ):
        model(torch.randn(5, 6))


def test_a_first_layer_that_reads_something_of_another_width_is_refused_by_name():
    model = adapt(Narrowing(backwards=True), target_modules=["one", "two"])
    with pytest.raises(AdapterError, match=r"'two' is called first in its block and gives its router 8 .* 6 of 'one'"):
        model(torch.randn(5, 8))


@pytest.mark.parametrize("method", ["hydralora", "lora_moe"])
def test_methods_take_it_by_their_options(method, load_tiny, ids):
    model = add_adapter(load_tiny(), method, {"r": 4, "num_experts": 3, "router_scope": "block"})
    assert sum("router" in name for name, _ in model.named_parameters()) == 2
    assert torch.equal(logits(model, ids), logits(load_tiny(), ids))
