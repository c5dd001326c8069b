"""Fifteen architectures as tiny random models: targets are found, learn, and come back exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, set_seed

from hydralora import HydraLoraConfig, add_adapter, find_targets
from hydralora.analysis.plain_lora import export_lora, uniform_gates
from hydralora.config import parse_config
from hydralora.errors import AdapterError
from hydralora.training.train import train_adapter
from hydralora.tuner.gates import choose_heads
from tests.hydralora.conftest import randomise
from tests.hydralora.test_train import Recorder

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 40}
LLAMA = {
    **TOKENS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
ONE_KEY = {**LLAMA, "num_key_value_heads": 1}  # heads share a key
NARROW = {**ONE_KEY, "head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": LLAMA,
    "Mistral": ONE_KEY,
    "Qwen2": ONE_KEY,
    "Qwen3": NARROW,
    "Gemma": NARROW,
    "Gemma2": NARROW,
    "Gemma3Text": NARROW,
    "Phi": LLAMA,
    "Phi3": LLAMA,
    "GPT2": {**TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "GPTNeoX": LLAMA,
    "OPT": {
        **TOKENS,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "ffn_dim": 24,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "word_embed_proj_dim": 16,
    },
    "Falcon": {**TOKENS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "Bloom": {**TOKENS, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "Mixtral": {**ONE_KEY, "num_local_experts": 3, "num_experts_per_tok": 2},
}
ATTENTION_AND_FEED_FORWARD = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
NEOX = {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
FOUND = {
    **dict.fromkeys(
        ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3Text"), ATTENTION_AND_FEED_FORWARD
    ),
    **dict.fromkeys(("GPTNeoX", "Falcon", "Bloom"), NEOX),
    "Phi": {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"},
    "Phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "GPT2": {"c_attn", "c_proj", "c_fc"},
    "OPT": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    "Mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},  # its own experts and router are stacked, not linear
}
WIDE = ["q_proj", "v_proj"]  # what PEFT's table names for most
TABLE = {
    "Phi": {*WIDE, "fc1", "fc2"},
    "GPT2": {"c_attn"},
    "GPTNeoX": {"query_key_value"},
    "Falcon": {"query_key_value"},
    "Bloom": {"query_key_value"},
    "Phi3": FOUND["Phi3"],
}


def make_model(name: str) -> Any:
    set_seed(0)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name])
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(3, 40, (2, 6), generator=torch.Generator().manual_seed(0))


def logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=tokens).logits


def last_names(model: Any) -> set[str]:
    return {layer.name.rsplit(".", 1)[-1] for layer in model.base_model.routed_layers()}


def train_one_step(model: Any, tokens: Tensor) -> None:
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.5)
    model.train()(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_linear_layer_of_the_blocks_is_found_and_nothing_else(name):
    assert set(find_targets(make_model(name))) == FOUND[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_adapter_without_targets_trains_and_comes_back_exactly(name, tokens, tmp_path):
    base = make_model(name)
    base.save_pretrained(tmp_path / "base")
    before = logits(base, tokens)
    model = add_adapter(base, "hydralora", {"r": 2, "num_experts": 3}, seed=1)
    assert last_names(model) == FOUND[name] and torch.equal(logits(model, tokens), before)
    for _ in range(2):  # heads first, then A and router: zero heads pass them no gradient
        train_one_step(model, tokens)
    after = logits(model, tokens)
    assert not torch.equal(after, before)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    assert torch.equal(logits(again, tokens), after)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_get_peft_model_finds_targets_without_being_told(name, tokens):
    model = get_peft_model(make_model(name), HydraLoraConfig(r=2, num_experts=3, task_type="CAUSAL_LM"))
    assert last_names(model) == TABLE.get(name, set(WIDE))
    randomise(model).train()(input_ids=tokens, labels=tokens).loss.backward()
    assert all(w.grad.abs().sum() > 0 for w in model.parameters() if w.requires_grad)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_found_layer_learns(name, tokens):
    model = make_model(name)
    settings = {"r": 2, "num_experts": 4, "target_modules": find_targets(model), "task_type": "CAUSAL_LM"}
    adapted = randomise(get_peft_model(model, HydraLoraConfig(**settings))).train()
    adapted(input_ids=tokens, labels=tokens).loss.backward()
    assert [n for n, w in adapted.named_parameters() if w.requires_grad and not w.grad.abs().sum()] == []


@pytest.mark.parametrize("name", ["Llama", "GPT2", "Falcon"])
def test_the_adapter_folder_alone_brings_base_and_adapter(name, tokens, tmp_path):
    make_model(name).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = randomise(get_peft_model(base, HydraLoraConfig(r=2, task_type="CAUSAL_LM")))
    model.save_pretrained(tmp_path / "adapter")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(again, tokens), logits(model, tokens))


def test_the_conv1d_of_gpt2_merges_like_a_linear_layer(tokens):
    config = HydraLoraConfig(
        r=2, num_experts=3, combine="mean", target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM"
    )
    model = randomise(get_peft_model(make_model("GPT2"), config))
    before = logits(model, tokens)
    torch.testing.assert_close(logits(model.merge_and_unload(), tokens), before, rtol=1e-4, atol=1e-4)


def test_a_model_of_no_known_type_must_be_told_its_targets():
    with pytest.raises(ValueError, match="target_modules"):
        get_peft_model(nn.Sequential(nn.Linear(4, 4)), HydraLoraConfig(r=2))


def test_default_training_goes_through_where_a_model_flattens_its_tokens(tokenizer, easy_corpus, tmp_path):
    set_seed(0)
    config = transformers.OPTConfig(**{**ARCHITECTURES["OPT"], "vocab_size": len(tokenizer)})
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    steps = Recorder()
    train = {"max_steps": 2, "batch_size": 4, "gate_every": 1, "max_length": 24}
    train_adapter(parse_config({"base": str(tmp_path / "base"), "train": train}), easy_corpus, tmp_path, on_step=steps)
    gates = steps.values[2]["gates"]
    assert len(gates) == 12 and all(sum(row) == pytest.approx(1.0, abs=1e-4) for row in gates.values())


@pytest.mark.parametrize("options", [{"router_input": "pooled"}, {"combine": "hard"}], ids=str)
def test_what_belongs_to_an_example_stays_with_it_where_a_model_flattens_its_tokens(options, tokens):
    config = HydraLoraConfig(r=2, num_experts=3, target_modules=["fc1"], task_type="CAUSAL_LM", **options)
    model = randomise(get_peft_model(make_model("OPT"), config), scale=0.5)
    heads = torch.tensor([2, 0])
    choose_heads(model, heads)
    together = logits(model, tokens)
    alone = []
    for row in range(2):
        choose_heads(model, heads[row : row + 1])
        alone.append(logits(model, tokens[row : row + 1]))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    choose_heads(model, heads.flip(0))
    if "combine" in options:
        assert not torch.allclose(logits(model, tokens), together, atol=1e-3)


def make_t5() -> Any:
    set_seed(0)
    config = transformers.T5Config(
        vocab_size=40,
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


@pytest.mark.parametrize("method", ["hydralora", "lora"])
def test_adapters_of_an_encoder_decoder_say_what_it_does(method):
    assert add_adapter(make_t5(), method).active_peft_config.task_type == "SEQ_2_SEQ_LM"


def test_an_export_of_an_encoder_decoder_says_so_and_loads(tmp_path):
    live = randomise(add_adapter(make_t5(), "hydralora", {"r": 2})).eval()
    export_lora(live, tmp_path, uniform_gates(live))
    assert PeftConfig.from_pretrained(tmp_path).task_type == "SEQ_2_SEQ_LM"
    tokens = torch.randint(3, 40, (2, 6))
    plain = PeftModel.from_pretrained(make_t5(), tmp_path).eval()
    for layer in live.base_model.routed_layers():
        layer.hydralora_router["default"].weight.data.zero_()  # equal shares
    with torch.inference_mode():
        given = {"input_ids": tokens, "decoder_input_ids": tokens}
        torch.testing.assert_close(plain(**given).logits, live(**given).logits, rtol=1e-4, atol=1e-4)


def test_encoder_decoder_models_work_too():
    model = make_t5()
    settings = {"r": 2, "target_modules": find_targets(model), "task_type": "SEQ_2_SEQ_LM"}
    adapted = randomise(get_peft_model(model, HydraLoraConfig(**settings)))
    tokens = torch.randint(3, 40, (2, 6))
    adapted(input_ids=tokens, labels=tokens).loss.backward()
    assert all(w.grad.abs().sum() > 0 for w in adapted.parameters() if w.requires_grad)


def test_a_model_without_blocks_has_no_targets():
    with pytest.raises(AdapterError, match="Sequential has no linear layer inside numbered blocks"):
        find_targets(nn.Sequential(nn.ReLU(), nn.Tanh()))
