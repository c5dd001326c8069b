"""A batch of examples with adapters of their own is what each example gets alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

from hydralora import GateCapture, HydraLoraConfig, override_experts
from hydralora.errors import AdapterError
from tests.hydralora.conftest import make_llama, randomise

NAMES = ["default", "__base__", "other", "default"]


def make(**other: Any) -> Any:
    """A model with "default" in two kinds of layers and "other" in one of them and a third."""
    first = {"r": 4, "num_experts": 3, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(make_llama(), HydraLoraConfig(**first))
    second = {**first, "r": 2, "num_experts": 2, "target_modules": ["q_proj", "up_proj"], **other}
    model.add_adapter("other", HydraLoraConfig(**second))
    model.base_model.set_adapter(["default", "other"])
    randomise(model, scale=0.4)
    model.set_adapter("default")
    return model.eval()


@pytest.fixture
def rows(ids: torch.Tensor) -> torch.Tensor:
    """Token ids ``(4, 7)``."""
    return torch.cat((ids, ids.flip(1)))


def alone(model: Any, name: str, row: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        if name == "__base__":
            with model.disable_adapter():
                return model(input_ids=row).logits
        model.set_adapter(name)
        return model(input_ids=row).logits


def test_each_example_is_answered_by_its_own_adapter(rows):
    model = make()
    with torch.inference_mode():
        together = model(input_ids=rows, adapter_names=NAMES).logits
    for place, name in enumerate(NAMES):
        torch.testing.assert_close(together[place : place + 1], alone(model, name, rows[place : place + 1]))
    nothing_left = {"msg": "the batch before left something"}
    torch.testing.assert_close(alone(model, "default", rows), model(input_ids=rows).logits.detach(), **nothing_left)


@pytest.mark.parametrize("beams", [1, 2])
def test_generation_follows_the_adapter_of_each_example(rows, beams):
    model = make()
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    together = model.generate(input_ids=rows, adapter_names=NAMES, **settings)
    for place in (0, 2):
        model.set_adapter(NAMES[place])
        assert torch.equal(together[place], model.generate(input_ids=rows[place : place + 1], **settings)[0])


def test_layers_trained_whole_follow_as_well(rows):
    model = make(modules_to_save=["lm_head"])
    names = ["default", "other", "other", "default"]
    with torch.inference_mode():
        together = model(input_ids=rows, adapter_names=names).logits
    torch.testing.assert_close(together[1:2], alone(model, "other", rows[1:2]))


def test_an_encoder_decoder_takes_them_too(rows):
    sizes = {"vocab_size": 320, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    base = T5ForConditionalGeneration(T5Config(**sizes, pad_token_id=0, decoder_start_token_id=0)).to(rows.device)
    model = get_peft_model(
        base, HydraLoraConfig(r=2, num_experts=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    )
    randomise(model).eval()
    names = ["default", "__base__", "__base__", "default"]
    with torch.inference_mode():
        together = model(input_ids=rows, decoder_input_ids=rows[:, :3], adapter_names=names).logits
        own = model(input_ids=rows[3:], decoder_input_ids=rows[3:, :3]).logits
    torch.testing.assert_close(together[3:], own)


def refuse_training(model: Any, rows: torch.Tensor) -> None:
    model.train()(input_ids=rows, adapter_names=NAMES)


def refuse_number(model: Any, rows: torch.Tensor) -> None:
    model(input_ids=rows, adapter_names=["default"])


def refuse_capture(model: Any, rows: torch.Tensor) -> None:
    with GateCapture(model):
        model(input_ids=rows, adapter_names=NAMES)


def refuse_override(model: Any, rows: torch.Tensor) -> None:
    with override_experts(model, {0: 0.0}):
        model(input_ids=rows, adapter_names=NAMES)


REFUSED = {
    "is for answering only, and the model is training": refuse_training,
    "There is no adapter 'third'. Known: default, other": lambda model, rows: model(
        input_ids=rows, adapter_names=["third"] * 4
    ),
    "There are 1 `adapter_names` for 4 examples": refuse_number,
    "Gates cannot be read or changed in a batch of several": refuse_capture,
    "Gates cannot be read or changed in a batch": refuse_override,
}


@pytest.mark.parametrize(("sentence", "act"), REFUSED.items(), ids=REFUSED)
def test_what_such_a_batch_cannot_do_is_refused_in_a_sentence(sentence, act, rows):
    with pytest.raises(AdapterError, match=sentence):
        act(make(), rows)


def test_a_pooled_router_cannot_share_a_batch(rows):
    with pytest.raises(AdapterError, match="Adapter 'other' pools over tokens, and cannot share a batch"):
        make(router_input="pooled")(input_ids=rows, adapter_names=NAMES, use_cache=False)
