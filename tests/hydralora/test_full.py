"""Full fine-tuning: every weight learns, the base stays beside it, and the whole model comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, set_seed

from hydralora import add_adapter, count_parameters
from hydralora.adapters.full import full_config
from hydralora.errors import AdapterError
from hydralora.generate import ChatModel, GenerationSettings
from hydralora.training.arguments import learning_rate_for
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import DEVICE, randomise
from tests.hydralora.test_train import make_config

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
QUESTION = [{"role": "user", "content": "The door is red. Which colour?"}]


def tied_llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            **TOKENS,
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
    )


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(**TOKENS, vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=32))


def make(kind: Callable[[], Any]) -> Any:
    set_seed(0)
    return kind().eval().requires_grad_(False)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


def test_every_weight_is_trained_and_counted_once(tiny):
    size = sum(weight.numel() for weight in tiny.parameters())
    count = count_parameters(add_adapter(tiny, "full"))
    assert (count.trainable, count.router, count.total, count.share) == (size, 0, size, 1.0)


@pytest.mark.parametrize("kind", [tied_llama, gpt2])
def test_tied_weights_stay_one_weight_and_are_saved_whole(kind, tmp_path):
    model, tokens = add_adapter(make(kind), "full"), torch.randint(3, 40, (2, 6))
    assert count_parameters(model).trainable == sum(weight.numel() for weight in make(kind).parameters())
    after = logits(randomise(model), tokens)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(PeftModel.from_pretrained(make(kind), tmp_path), tokens), after)


@pytest.mark.parametrize("kind", [tied_llama, gpt2])
def test_the_merged_model_is_a_plain_one_with_the_same_logits(kind, tmp_path):
    model, tokens = randomise(add_adapter(make(kind), "full")), torch.randint(3, 40, (2, 6))
    after = logits(model, tokens)
    model.merge_and_unload().save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path), tokens), after)


def test_switched_off_it_is_the_base_exactly(load_tiny, ids):
    model = randomise(add_adapter(load_tiny(), "full"))
    with model.disable_adapter():
        assert torch.equal(logits(model, ids), logits(load_tiny(), ids))


def test_a_full_run_answers_in_the_chat_beside_its_base_and_other_adapters(base_folder, easy_corpus, tmp_path):
    for method in ("full", "lora"):
        train_adapter(make_config(base_folder, method, {}, max_steps=4), easy_corpus, tmp_path / method)
    chat = ChatModel(str(base_folder), device=DEVICE)
    greedy = GenerationSettings(temperature=0.0, max_tokens=6)

    def answer(run: str | None) -> list[int]:
        folder: Path | None = tmp_path / run / "adapter" if run else None
        return [event.id for event in chat.stream(QUESTION, adapter=folder, settings=greedy)]

    first = {run: answer(run) for run in (None, "full", "lora")}
    assert first["full"] != first[None]
    assert {run: answer(run) for run in ("lora", None, "full")} == first


def test_full_fine_tuning_takes_a_tenth_of_an_adapters_rate():
    assert learning_rate_for(4096, "full") == pytest.approx(0.1 * learning_rate_for(4096, "lora"))


def test_weights_beside_other_layers_are_refused_by_name():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.inner = nn.Parameter(torch.ones(2)), nn.Linear(2, 2)

    with pytest.raises(AdapterError, match="Layer 'odd' \\(Odd\\) holds weights beside other layers"):
        full_config(nn.ModuleDict({"odd": Odd()}))
