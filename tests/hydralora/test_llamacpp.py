"""What is written for llama.cpp is what torch computes: read back by transformers, and asked of llama.cpp itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, normalizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

from hydralora.analysis.export import export_run
from hydralora.bases.load import load_base
from hydralora.corpus.encode import encode_prompt, encode_text
from hydralora.errors import AdapterError, BaseModelError
from hydralora.llamacpp.architectures import ARCHITECTURES, Weights, architecture_of, interleaved
from hydralora.llamacpp.check import Places, Yardstick, ask_llama_cpp, can_check, likeliest
from hydralora.llamacpp.files import write_lora, write_model
from hydralora.llamacpp.modelfile import modelfile
from hydralora.results import Export
from tests.hydralora.conftest import make_tokenizer, randomise
from tests.hydralora.test_export import runs as runs

LLAMA_CPP = pytest.mark.skipif(not can_check(), reason="xllamacpp is not installed")
TEXTS = ["The door is red. Which colour?", "A blue boat, 1234 trees;  two\n\nlines", "héllo wörld ☃"]
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "tied llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "wide heads": (LlamaConfig, LlamaForCausalLM, {"head_dim": 32, "attention_bias": True}),
    "llama 3": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 32}),
}


@pytest.fixture(scope="module")
def cutter() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def make(name: str, tokens: int, **more: Any) -> Any:
    """A small random model; biases too, which start as zeros."""
    config, kind, own = MODELS[name]
    set_seed(1)
    model = kind(config(vocab_size=tokens, **{**SMALL, **own, **more})).eval()
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if path.endswith("bias"):
                weight.normal_(0, 0.3)
    return model


def adapted(model: Any, **more: Any) -> Any:
    """A random LoRA of mixed ranks and scales, over every linear layer."""
    settings = {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {"q_proj": 2, "down_proj": 8},
        "alpha_pattern": {"k_proj": 3, "down_proj": 20},
        "target_modules": "all-linear",
        **more,
    }
    return randomise(get_peft_model(model, LoraConfig(**settings)), 3).eval()


def tensors(file: Path) -> dict[str, np.ndarray]:
    """The matrices of a GGUF file by name."""
    return {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}


def places(tokenizer: Any) -> Places:
    prompts = [encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]
    return Places([*prompts, *(ids[: len(ids) // 2] for ids in prompts)], TEXTS)


# Laws


def test_rows_of_a_head_stand_in_pairs() -> None:
    weight = torch.arange(16).view(16, 1)
    assert interleaved(weight, 2).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


@pytest.mark.parametrize("name", ["llama", "tied llama", "mistral", "qwen2"])
def test_transformers_reads_the_same_model_back(name: str, cutter: Any, tmp_path: Path) -> None:
    model = make(name, len(cutter))
    write_model(model, cutter, tmp_path / "m.gguf", "f16", name="Small")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    ids = torch.tensor([encode_text(cutter, TEXTS[0])])
    with torch.inference_mode():
        torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0.02, atol=0.02)


def test_a_mixed_rank_never_doubles_a_scale(cutter: Any, tmp_path: Path) -> None:
    model = adapted(make("llama", len(cutter)))
    write_lora(model, tmp_path / "a.gguf", name="Small")
    found, reader = tensors(tmp_path / "a.gguf"), GGUFReader(tmp_path / "a.gguf")
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    names = Weights(model.get_base_model().config)
    checked = 0
    for path, layer in model.get_base_model().named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        place = names.name(f"{path}.weight")
        a, b = found[f"{place}.lora_a"], found[f"{place}.lora_b"]
        there = alpha / a.shape[0] * b @ a  # what llama.cpp adds
        here = layer.get_delta_weight("default").detach()
        np.testing.assert_allclose(there, names.ordered(f"{path}.weight", here).numpy(), rtol=1e-4, atol=1e-5)
        checked += 1
    assert checked == 2 * 7 and {a.shape[0] for name, a in found.items() if name.endswith("lora_a")} == {2, 4, 8}


def test_rows_that_do_not_fill_a_block_stay_f16(cutter: Any, tmp_path: Path) -> None:
    write_model(make("llama", len(cutter), intermediate_size=100), cutter, tmp_path / "m.gguf", "q8_0", name="Small")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_the_file_carries_tokenizer_and_template(cutter: Any, tmp_path: Path) -> None:
    write_model(make("llama", len(cutter)), cutter, tmp_path / "m.gguf", "f16", name="Small")
    fields = GGUFReader(tmp_path / "m.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == cutter.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == cutter.eos_token_id
    assert len(fields["tokenizer.ggml.tokens"].contents()) == len(cutter)


# llama.cpp itself


@LLAMA_CPP
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_says_what_torch_says(name: str, kind: str, cutter: Any, tmp_path: Path) -> None:
    model = make(name, len(cutter))
    write_model(model, cutter, tmp_path / "m.gguf", kind, name="Small")
    yardstick = Yardstick(model, cutter, places(cutter), tmp_path / "m.gguf")
    assert len(yardstick.gap) >= 3 and max(yardstick.gap) < (0.02 if kind == "f16" else 0.2)
    assert yardstick.same_tokens == len(TEXTS)


@LLAMA_CPP
@pytest.mark.parametrize("name", ["llama", "wide heads", "qwen2", "qwen3"])
def test_llama_cpp_lays_an_adapter_of_mixed_ranks_over_the_base(name: str, cutter: Any, tmp_path: Path) -> None:
    model = make(name, len(cutter))
    write_model(model, cutter, tmp_path / "m.gguf", "f16", name="Small")
    yardstick = Yardstick(model, cutter, places(cutter), tmp_path / "m.gguf")
    tuned = adapted(model)
    write_lora(tuned, tmp_path / "a.gguf", name="Small")
    with tuned.disable_adapter():
        before = likeliest(tuned, yardstick.places)
    wanted = likeliest(tuned, yardstick.places)
    check = yardstick.check(wanted, tmp_path / "m.gguf", tmp_path / "a.gguf")
    assert [token for token, _ in before] != [token for token, _ in wanted]
    assert check.is_close and check.gap < 0.03 and check.prompts >= 3  # a place where a character begins is not told
    without = yardstick.check(wanted, tmp_path / "m.gguf")
    assert not without.is_close, "a check that passes without the adapter tells nothing"


@LLAMA_CPP
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    with pytest.raises(AdapterError, match=r"llama.cpp cannot read m\.gguf"):
        ask_llama_cpp(tmp_path / "m.gguf", None, Places([[1, 2]], []), [3])


@LLAMA_CPP
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_a_real_small_model_with_sentencepieces_tokens_is_computed_alike(kind: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("HYDRA_TEST_MODELS", "/nowhere")) / "stories260K"
    if not folder.is_dir():
        pytest.skip("no folder stories260K in HYDRA_TEST_MODELS")
    model, tokenizer = load_base(str(folder))
    texts = ["Once upon a time, there was a little girl.", "Lily  has 12 cats!\n\n", "☃ and 你好"]
    beginnings = [tokenizer(text)["input_ids"] for text in texts]
    write_model(model, tokenizer, tmp_path / "m.gguf", kind, name="Stories")
    yardstick = Yardstick(model, tokenizer, Places(beginnings, texts), tmp_path / "m.gguf")
    assert yardstick.same_tokens == 3 and max(yardstick.gap) < (0.02 if kind == "f16" else 0.2)


@LLAMA_CPP
@pytest.mark.parametrize(
    ("name", "how", "form"),
    [
        ("hydralora", "mean_gate", "gguf"),
        ("hydralora", "cluster", "gguf-q8_0"),
        ("hydralora", "merged_mean", "gguf-q8_0"),
        ("lora_moe", "uniform", "gguf"),
        ("lora", "own", "gguf"),
        ("lora", "merged", "gguf"),
        ("full", "merged", "gguf"),
    ],
)
def test_an_export_for_llama_cpp_is_checked_by_it(runs, name, how, form, easy_corpus, tmp_path):
    result = export_run(runs(name), easy_corpus, tmp_path / "out", how, form=form)
    assert result == Export.read(tmp_path / "out") and result.form == form
    for part in result.parts:
        assert part.llama is not None and part.llama.is_close, part.llama
        assert part.files and all((tmp_path / "out" / file).is_file() for file in part.files)
    assert "llama.cpp: next tokens" in result.sentence and "FARTHER" not in result.sentence
    assert (tmp_path / "out" / "base.gguf").exists() == (not how.startswith("merged"))
    assert not (how.startswith("merged") and list(tmp_path.rglob("*.safetensors")))


# Modelfile


def test_a_modelfile_names_its_files_and_writes_the_bases_own_template(cutter: Any) -> None:
    text = modelfile(cutter, "../base.gguf", "./adapter.gguf")
    assert text.startswith("FROM ../base.gguf\nADAPTER ./adapter.gguf\n")
    template = text.partition('TEMPLATE """')[2].partition('"""')[0]
    for system in ("", "Be short."):
        said = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": "Why?"}]
        whole = cutter.decode(encode_prompt(cutter, said))
        chosen = template.partition("{{ else }}")
        head = chosen[0].removeprefix("{{ if .System }}") if system else chosen[2].partition("{{ end }}")[0]
        rest = template.partition("{{ end }}")[2]
        filled = (head + rest).replace("{{ .System }}", system).replace("{{ .Prompt }}", "Why?")
        assert filled.replace("{{ .Response }}", "") == whole
    assert 'PARAMETER stop "<|end|>"' in text


def test_a_base_without_a_template_gets_none() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    assert modelfile(tokenizer, "./m.gguf") == "FROM ./m.gguf\n"


# Refusals


def test_an_architecture_that_is_not_in_the_table_is_refused_with_those_that_are() -> None:
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)
    with pytest.raises(BaseModelError, match="'gpt2' are not written as GGUF; these are: Llama, Mistral, Qwen2, Qwen3"):
        architecture_of(GPT2LMHeadModel(config).config)
    assert {kind.title for kind in ARCHITECTURES.values()} == {"Llama", "Mistral", "Qwen2", "Qwen3"}


@pytest.mark.parametrize(
    "config, name",
    [
        (LlamaConfig(**SMALL, hidden_act="gelu"), "hidden_act"),
        (MistralConfig(**SMALL, sliding_window=64), "sliding_window"),
        (Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=64, max_window_layers=0), "sliding_window"),
        (LlamaConfig(**SMALL, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "rope_type"),
    ],
)
def test_what_llama_cpp_would_pass_over_is_refused_by_name(config: Any, name: str) -> None:
    with pytest.raises(BaseModelError, match=f"`{name}` of this base is"):
        architecture_of(config)


def test_a_tokenizer_that_llama_cpp_would_cut_otherwise_is_refused(cutter: Any, tmp_path: Path) -> None:
    model = make("llama", len(cutter))
    other = make_tokenizer()
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(BaseModelError, match="cuts text in a way of its own"):
        write_model(model, other, tmp_path / "m.gguf", "f16", name="Small")
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")), eos_token="a")
    with pytest.raises(BaseModelError, match="of the kind WordLevel"):
        write_model(model, words, tmp_path / "m.gguf", "f16", name="Small")


def test_numbers_beyond_f16_are_refused(cutter: Any, tmp_path: Path) -> None:
    model = make("llama", len(cutter))
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(BaseModelError, match="holds 100,000, and f16 reaches to 65,504"):
        write_model(model, cutter, tmp_path / "m.gguf", "f16", name="Small")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "Only plain LoRAs"),
        ({"bias": "lora_only"}, "also trains whole layers"),
        ({"modules_to_save": ["lm_head"]}, "also trains whole layers"),
        ({"target_modules": ["lm_head"], "rank_pattern": {}}, "changes `lm_head`, which this base shares"),
    ],
)
def test_what_a_gguf_adapter_cannot_hold_is_refused(settings: Any, reason: str, cutter: Any, tmp_path: Path) -> None:
    model = adapted(make("tied llama", len(cutter)), **settings)
    with pytest.raises(AdapterError, match=reason):
        write_lora(model, tmp_path / "a.gguf", name="Small")


def test_an_export_that_cannot_be_written_as_gguf_leaves_nothing(runs, easy_corpus, tmp_path):
    with pytest.raises(AdapterError, match="`form` must be one of safetensors, gguf, gguf-q8_0, got 'onnx'"):
        export_run(runs("hydralora"), easy_corpus, tmp_path / "out", "mean_gate", form="onnx")
    assert list(tmp_path.iterdir()) == []
