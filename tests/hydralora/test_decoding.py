"""Decoding with a cache of fixed size gives the tokens, logits and gates of transformers' own way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hydralora import ChatModel, GateCapture, add_adapter, override_experts
from hydralora.answer_settings import Change, GenerationSettings
from hydralora.decoding import StaticDecoder
from hydralora.errors import UserError
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_generate import ASK, GREEDY, ask, ids_of

TARGETS = ["q_proj", "down_proj"]
METHODS: dict[str, dict[str, Any] | None] = {
    "base": None,
    "lora": {"target_modules": TARGETS},
    "hydralora": {"target_modules": TARGETS, "num_experts": 3},
    "lora_moe": {"target_modules": TARGETS, "num_experts": 3},
    "lope": {"target_modules": TARGETS, "num_experts": 3},
}


def make_model(method: str, **more: Any) -> Any:
    options = METHODS[method]
    if options is None:
        return make_llama().eval()
    model = add_adapter(make_llama().requires_grad_(False), method, {"r": 4, **options, **more})
    return randomise(model).eval()


def answer(model: Any, ids: Tensor, seed: int | None = None, **more: Any) -> list[int]:
    """Twelve tokens after ``ids``, greedy or drawn."""
    torch.manual_seed(seed or 0)
    sampling = {"do_sample": False} if seed is None else {"do_sample": True, "temperature": 1.5, "top_k": 0}
    ends = {"pad_token_id": 0, "eos_token_id": None, "max_new_tokens": 12}
    result = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **ends, **sampling, **more)
    return result[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("seed", [None, 3], ids=["greedy", "drawn"])
@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_of_transformers(method: str, seed: int | None, ids: Tensor) -> None:
    model = make_model(method)
    decoder = StaticDecoder(model, 40)
    for prompt in (ids[:1], ids[1:, :4]):  # the second after the first, in the same cache
        assert answer(model, prompt, seed, custom_generate=decoder.generate) == answer(model, prompt, seed)


@pytest.mark.parametrize("change", [None, {1: 0.0}], ids=["as it is", "muted"])
@pytest.mark.parametrize("method", ["hydralora", "lope"])
def test_gates_of_a_step_are_those_of_a_full_pass(method: str, change: dict[int, float] | None, ids: Tensor) -> None:
    model = make_model(method)
    with override_experts(model, change or {}), GateCapture(model) as capture, torch.inference_mode():
        model(input_ids=ids[:1])
        whole = capture.take()
        decoder = StaticDecoder(model, 40, capture)
        decoder.prefill(ids[:1, :3])
        torch.testing.assert_close(capture.take(), whole[:, :, :3], rtol=0, atol=1e-5)
        decoder.prefill(ids[:1, :4])  # its gates are not taken
        for place in range(4, ids.shape[1]):
            decoder.step(ids[:1, place : place + 1])
            found = capture.take()
            torch.testing.assert_close(found, whole[:, :, place : place + 1], rtol=0, atol=1e-5)


def test_gates_taken_earlier_do_not_change_with_the_next_step(ids: Tensor) -> None:
    model = make_model("hydralora")
    with GateCapture(model) as capture:
        decoder = StaticDecoder(model, 40, capture)
        decoder.prefill(ids[:1])
        decoder.step(ids[:1, :1])
        first = capture.take()
        kept = first.clone()
        decoder.step(ids[:1, 1:2])
        assert torch.equal(first, kept) and not torch.equal(capture.take(), kept)


def test_a_compiled_step_gives_the_same_answer_and_gates(ids: Tensor) -> None:
    torch.compiler.reset()
    model = make_model("hydralora")
    model.get_base_model().model.layers = model.get_base_model().model.layers[:1]
    with GateCapture(model) as capture:
        decoder = StaticDecoder(model, 40, capture, compiled=True, backend="eager")
        assert answer(model, ids[:1], custom_generate=decoder.generate) == answer(model, ids[:1])
        capture.forget()
        decoder.prefill(ids[:1])
        decoder.step(ids[:1, :1])
        gates = capture.take()
        model(input_ids=torch.cat((ids[:1], ids[:1, :1]), 1))
        torch.testing.assert_close(gates, capture.take()[:, :, -1:], rtol=0, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="a CUDA graph needs a GPU; HYDRA_TEST_DEVICE=cuda runs this there")
def test_on_a_gpu_a_step_is_a_graph(ids: Tensor) -> None:
    assert StaticDecoder(make_model("hydralora"), 40).graph is not None


def test_more_tokens_than_the_cache_holds_are_refused(ids: Tensor) -> None:
    decoder = StaticDecoder(make_model("base"), 100)
    decoder.prefill(ids[:1].repeat(1, 36))  # 252 of 256
    for _ in range(4):
        decoder.step(ids[:1, :1])
    with pytest.raises(UserError, match="The cache holds 256 tokens, and 257 were sent"):
        decoder.step(ids[:1, :1])


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("hydralora", {"router_input": "pooled"}, "a pooled router reads every earlier token"),
        ("prompt_tuning", {"num_virtual_tokens": 3}, "virtual tokens are put in front of the prompt"),
    ],
)
def test_a_model_that_cannot_decode_so_says_why(method: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        StaticDecoder(add_adapter(make_llama().requires_grad_(False), method, options), 40)


# The chat


@pytest.fixture(scope="module")
def adapters(base_folder: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Saves a random adapter of a method and gives its folder."""
    folder = tmp_path_factory.mktemp("adapters")

    def save(method: str = "hydralora", **options: Any) -> Path:
        target = folder / method / "adapter"
        if not target.exists():
            model = add_adapter(make_llama(len(tokenizer)).requires_grad_(False), method, {"r": 4, **options})
            randomise(model).save_pretrained(target)
        return target

    return save


@pytest.fixture
def chats(base_folder: Path) -> tuple[ChatModel, ChatModel]:
    """One that decodes with a static cache, and one that does not."""
    static, plain = (ChatModel(str(base_folder), device=DEVICE, static=wanted) for wanted in (True, False))
    return static, plain


def test_the_chat_says_the_same_with_a_static_cache(chats: Any, adapters: Any) -> None:
    static, plain = chats
    drawn = GenerationSettings(temperature=1.0, max_tokens=20, seed=4)
    for settings in (GREEDY, drawn):
        for folder in (None, adapters(), adapters("lora"), adapters()):
            found, wanted = (ask(chat, settings=settings, adapter=folder) for chat in (static, plain))
            assert ids_of(found) == ids_of(wanted) and static._static.decoder is not None
            for one, other in zip(found, wanted, strict=True):
                assert (one.gates is None) == (other.gates is None)
                if one.gates:
                    torch.testing.assert_close(torch.tensor(one.gates), torch.tensor(other.gates), rtol=0, atol=1e-5)


def test_a_decoder_serves_the_next_answer_of_the_same_adapter_only(chats: Any, adapters: Any) -> None:
    chat = chats[0]
    ask(chat, adapter=adapters())
    first = chat._static.decoder
    ask(chat, adapter=adapters())
    assert chat._static.decoder is first
    ask(chat)
    assert chat._static.decoder is not first


def test_changed_experts_are_heard_and_end_with_their_answer(chats: Any, adapters: Any) -> None:
    static, plain = chats
    before = ask(static, adapter=adapters())
    for more in ({"factors": {1: 0.0}}, {"force": 2}, {"layers": {"model.layers.0.mlp.up_proj": Change(force=1)}}):
        assert ids_of(ask(static, adapter=adapters(), **more)) == ids_of(ask(plain, adapter=adapters(), **more))
    assert ask(static, adapter=adapters()) == before


def test_an_adapter_that_leaves_takes_its_decoder_along(chats: Any, adapters: Any) -> None:
    chat = chats[0]
    ask(chat, adapter=adapters())
    chat.unload()
    assert chat._static.decoder is None
    assert ids_of(ask(chat, adapter=adapters())) == ids_of(ask(chats[1], adapter=adapters()))


def test_where_it_cannot_be_the_chat_says_why_once_and_answers(chats: Any, base_folder: Path, caplog: Any) -> None:
    static, _ = chats
    folder = base_folder.parent / "pooled" / "adapter"
    model = add_adapter(
        make_llama(len(static.tokenizer)).requires_grad_(False), "hydralora", {"router_input": "pooled"}
    )
    model.save_pretrained(folder)
    for _ in range(2):
        assert len(list(static.stream(ASK, settings=GREEDY, adapter=folder))) == 12
    said = [record.message for record in caplog.records if "growing cache" in record.message]
    assert said == [
        "Answers are decoded with a growing cache, which is slower: a pooled router reads every earlier token."
    ]


def test_a_decoder_that_writes_no_gates_is_not_taken_where_they_are_wanted(chats: Any, adapters: Any) -> None:
    static, plain = chats
    ask(static, adapter=adapters(), gates=False)
    silent = static._static.decoder
    found, wanted = (ask(chat, adapter=adapters()) for chat in (static, plain))
    assert static._static.decoder is not silent and static._static.decoder.records
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.tensor(one.gates), torch.tensor(other.gates), rtol=0, atol=1e-5)
