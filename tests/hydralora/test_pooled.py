"""A router that pools: causal, blind to padding and batch-mates, and never silently wrong beside a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hydralora import HydraLoraConfig, add_adapter
from hydralora.answering import answer_examples
from hydralora.corpus.examples import Example
from hydralora.errors import AdapterError
from hydralora.generate import Answer, ChatModel, GenerationSettings
from hydralora.training.train import train_adapter
from hydralora.tuner.gates import can_cache
from hydralora.tuner.layer import HydraLoraLinear
from tests.hydralora.conftest import DEVICE, randomise
from tests.hydralora.test_train import make_config

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 through two blocks


@pytest.fixture
def pooled(tiny: Any) -> Any:
    options = {"r": 4, "num_experts": 3, "router_input": "pooled"}
    return randomise(add_adapter(tiny, "hydralora", options), scale=0.4).eval()


def logits(model: Any, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False, **more).logits


def test_the_layer_equals_the_formula_as_a_loop_over_tokens_and_experts():
    torch.manual_seed(0)
    config = HydraLoraConfig(r=3, num_experts=4, lora_alpha=6.0, router_input="pooled")
    layer = HydraLoraLinear(nn.Linear(12, 9), "default", "proj", config)
    for name in ("A", "B", "router"):
        nn.init.normal_(getattr(layer, f"hydralora_{name}")["default"].weight, std=0.5)
    layer.double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    a, b, router = (getattr(layer, f"hydralora_{name}")["default"].weight for name in ("A", "B", "router"))
    expected = layer.base_layer(x).clone()
    for row in range(2):
        for token in range(5):
            mean = torch.stack([a @ x[row, t] for t in range(token + 1)]).mean(0)
            gates = torch.softmax(router @ mean, 0)
            for expert in range(4):
                head = b.view(9, 4, 3)[:, expert]
                expected[row, token] += 2.0 * gates[expert] * (head @ (a @ x[row, token]))
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)  # gates are a softmax in float32


def test_a_later_token_changes_nothing_before_it(pooled, ids):
    changed = ids.clone()
    changed[:, -1] = 7
    torch.testing.assert_close(logits(pooled, ids)[:, :-1], logits(pooled, changed)[:, :-1], **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(pooled, ids, side):
    pad, ones = ids.new_zeros(2, 3), torch.ones_like(ids)
    order = (pad, ids) if side == "left" else (ids, pad)
    masks = (pad, ones) if side == "left" else (ones, pad)
    padded = logits(pooled, torch.cat(order, 1), attention_mask=torch.cat(masks, 1))
    real = padded[:, 3:] if side == "left" else padded[:, :-3]
    torch.testing.assert_close(real, logits(pooled, ids), **CLOSE)


def test_a_batch_mate_changes_nothing(pooled, ids):
    torch.testing.assert_close(logits(pooled, ids)[:1], logits(pooled, ids[:1]), **CLOSE)


def test_the_pool_remembers_earlier_tokens(pooled, ids):
    layer = pooled.base_model.routed_layers()[0]
    layer.capture = True
    logits(pooled, ids[:1])
    whole = layer.kept_gates[-1][0, -1]
    logits(pooled, ids[:1, -1:])
    assert not torch.allclose(whole, layer.kept_gates[-1][0, 0])


def test_a_cache_is_refused_with_the_way_out(pooled, ids):
    with pytest.raises(AdapterError, match="`use_cache=False`, or train with `router_input` x or Ax"):
        pooled.generate(input_ids=ids, max_new_tokens=3, use_cache=True, pad_token_id=0)


def test_without_a_cache_generation_follows_the_whole_forward(pooled, ids):
    out = pooled.generate(input_ids=ids, max_new_tokens=3, do_sample=False, use_cache=False, pad_token_id=0)
    again = torch.cat([ids, logits(pooled, ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(out[:, : ids.shape[1] + 1], again)


def test_the_base_and_other_adapters_keep_their_cache(pooled, ids):
    assert not can_cache(pooled)
    with pooled.disable_adapter():
        assert can_cache(pooled)
        pooled.generate(input_ids=ids, max_new_tokens=3, use_cache=True, pad_token_id=0)
    pooled.add_adapter("plain", HydraLoraConfig(r=2, target_modules=["q_proj"]))
    pooled.set_adapter("plain")
    assert can_cache(pooled)


def packed(lengths: list[int]) -> torch.Tensor:
    """Positions that begin again with each sequence of a row."""
    return torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(DEVICE)


BORDERS = {
    "positions": {"position_ids": packed([3, 1, 4])},
    "borders": {"cu_seq_lens_q": torch.tensor([0, 3, 4, 8], dtype=torch.int32, device=DEVICE)},
    "numbers": {"seq_idx": torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2]], device=DEVICE)},
    "mask": {"attention_mask": torch.tensor([[1, 1, 1, 2, 3, 3, 3, 3]], device=DEVICE)},
}


@pytest.mark.parametrize("told", BORDERS.values(), ids=BORDERS)
def test_sequences_packed_into_a_row_are_pooled_apart(told):
    torch.manual_seed(0)
    layer = HydraLoraLinear(nn.Linear(12, 9), "default", "proj", HydraLoraConfig(r=3, router_input="pooled"))
    randomise(layer)
    x = torch.randn(1, 8, 12)
    layer.now.begin({name: value.cpu() for name, value in told.items()}, False, False)
    together = layer(x)
    layer.now.begin({}, False, False)
    apart = torch.cat([layer(part) for part in x.split([3, 1, 4], 1)], 1)
    torch.testing.assert_close(together, apart, **CLOSE)
    assert not torch.allclose(layer(x), apart, **CLOSE), "the border makes a difference"


def test_packed_sequences_of_a_model_are_those_alone(pooled, ids):
    row, positions = ids.view(1, -1), packed([7, 7])
    together = logits(pooled, row, position_ids=positions)
    torch.testing.assert_close(together.view(2, 7, -1), logits(pooled, ids), **CLOSE)


def test_checkpointing_recomputes_what_a_measurement_in_between_has_not_changed(pooled, ids):
    pooled.train().gradient_checkpointing_enable({"use_reentrant": False})
    gradients = []
    for measured in (False, True):
        pooled.zero_grad()
        loss = pooled(input_ids=ids.view(1, -1), labels=ids.view(1, -1), position_ids=packed([7, 7])).loss
        if measured:
            with torch.no_grad():
                pooled(input_ids=ids, position_ids=packed([7]).expand(2, -1))
        loss.backward()
        gradients.append({n: w.grad.clone() for n, w in pooled.named_parameters() if w.grad is not None})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_pooled_run_trains_chats_and_answers(base_folder, easy_corpus, tmp_path):
    adapter = {"r": 4, "num_experts": 2, "router_input": "pooled"}
    train_adapter(make_config(base_folder, adapter=adapter, max_steps=3), easy_corpus, tmp_path)
    chat, said = ChatModel(str(base_folder), device=DEVICE), Answer()
    settings = GenerationSettings(temperature=0.0, max_tokens=4)
    message = [{"role": "user", "content": "The door is red."}]
    list(chat.stream(message, adapter=tmp_path / "adapter", settings=settings, answer=said))
    assert said.reason in ("end", "length") and len(said.layers) == 14
    examples = [Example("A red door.", "red"), Example("Is the tree green or red?", "green")]
    model = chat.use(tmp_path / "adapter")
    together = answer_examples(model, chat.tokenizer, examples, max_tokens=3)
    alone = [answer_examples(model, chat.tokenizer, [example], max_tokens=3)[0] for example in examples]
    assert together == alone  # left padding is not pooled


def test_an_input_without_a_token_axis_is_refused():
    layer = HydraLoraLinear(nn.Linear(12, 9), "default", "proj", HydraLoraConfig(r=3, router_input="pooled"))
    with pytest.raises(AdapterError, match="Layer 'proj': a pooled router needs input"):
        layer(torch.randn(5, 12))
