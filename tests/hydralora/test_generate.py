"""Answers equal those of transformers, and the gates sent along are the ones that made each token."""

from __future__ import annotations

import json
import queue
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hydralora import ChatModel, GateCapture, add_adapter
from hydralora.bases.fingerprint import fingerprint
from hydralora.corpus.encode import encode_prompt
from hydralora.errors import AdapterError, ContextError, UserError
from hydralora.generate import MAX_ADAPTERS, Answer, Change, GenerationSettings, TokenEvent
from tests.hydralora.conftest import DEVICE, make_llama, randomise

ASK = [{"role": "user", "content": "The door is red. Which colour?"}]
GREEDY = GenerationSettings(temperature=0.0, max_tokens=12)
OPTIONS = {"prompt_tuning": {"num_virtual_tokens": 3}, "ia3": {}}


@pytest.fixture(scope="module")
def adapters(base_folder: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Saves a random adapter of a method and seed and gives its folder."""
    folder = tmp_path_factory.mktemp("adapters")

    def save(method: str = "hydralora", seed: int = 1) -> Path:
        target = folder / f"{method}{seed}" / "adapter"
        if not target.exists():
            options = OPTIONS.get(method, {"r": 4})
            model = add_adapter(make_llama(len(tokenizer)).requires_grad_(False), method, options)
            randomise(model, seed).save_pretrained(target)
        return target

    return save


@pytest.fixture
def chat(base_folder: Path) -> ChatModel:
    return ChatModel(str(base_folder), device=DEVICE)


def ask(chat: ChatModel, messages: Any = ASK, settings: Any = GREEDY, **more: Any) -> list[TokenEvent]:
    return list(chat.stream(messages, settings=settings, **more))


def ids_of(events: list[TokenEvent]) -> list[int]:
    return [event.id for event in events]


def by_transformers(model: Any, chat: ChatModel, tokens: int = 12) -> list[int]:
    prompt = torch.tensor([encode_prompt(chat.tokenizer, ASK)], device=DEVICE)
    result = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=tokens,
        pad_token_id=chat.tokenizer.pad_token_id,
        eos_token_id=chat.tokenizer.eos_token_id,
    )
    return result[0, prompt.shape[1] :].tolist()


def test_greedy_answers_of_the_base_equal_those_of_transformers(chat):
    assert ids_of(ask(chat)) == by_transformers(chat.base, chat)


@pytest.mark.parametrize("method", ["hydralora", "lora_moe", "r_lora", "lora", "prompt_tuning", "ia3"])
def test_greedy_answers_of_an_adapter_equal_those_of_transformers(chat, adapters, method):
    events = ask(chat, adapter=adapters(method))
    assert ids_of(events) == by_transformers(chat.model, chat)
    assert len(events) == 12


@pytest.mark.parametrize("method", ["hydralora", "lora_moe", "r_lora"])
def test_gates_of_every_token_equal_those_of_a_full_forward_pass(chat, adapters, method):
    answer = Answer()
    events = ask(chat, adapter=adapters(method), answer=answer)
    prompt = encode_prompt(chat.tokenizer, ASK)
    with GateCapture(chat.model) as capture, torch.inference_mode():
        chat.model(input_ids=torch.tensor([prompt + ids_of(events)], device=DEVICE))
        gates = capture.take()[:, 0]
    assert answer.layers == capture.names and answer.prompt_tokens == len(prompt)
    for place, event in enumerate(events, len(prompt) - 1):  # the pass that produced the token
        torch.testing.assert_close(torch.tensor(event.gates), gates[:, place].cpu(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_adapters_without_router_have_no_gates(chat, adapters, method):
    answer = Answer()
    events = ask(chat, adapter=adapters(method), answer=answer)
    assert answer.layers == [] and all(event.gates is None for event in events)


def test_the_base_answers_as_before_while_adapters_are_in_place(chat, adapters):
    before = ask(chat)
    assert ids_of(ask(chat, adapter=adapters())) != ids_of(before)
    assert ask(chat) == before


def test_the_same_seed_gives_the_same_answer(chat):
    draws = [
        ids_of(ask(chat, settings=GenerationSettings(temperature=1.0, max_tokens=20, seed=seed))) for seed in (4, 4, 5)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("method", ["hydralora", "lora", "ia3"])
def test_many_adapters_answer_in_turns_as_each_does_alone(base_folder, adapters, method):
    folders = [adapters(method, seed) for seed in range(1, 5)]
    alone = [ids_of(ask(ChatModel(str(base_folder), device=DEVICE), adapter=folder)) for folder in folders]
    chat = ChatModel(str(base_folder), device=DEVICE)
    base = ids_of(ask(chat))
    for place in (0, 1, 2, 3, 1, 0, 3):
        assert ids_of(ask(chat, adapter=folders[place])) == alone[place]
        assert ids_of(ask(chat)) == base
    assert len(chat.adapters) == 4


def test_an_answer_ends_before_the_first_stop_sequence_however_it_is_cut_into_tokens(chat):
    events = ask(chat)
    text = "".join(event.text for event in events)
    for begin in range(len(text)):
        for size in (1, 2, 5):
            stop, answer = text[begin : begin + size], Answer()
            given = ask(chat, stops=["never said", stop], answer=answer)
            assert "".join(event.text for event in given) == text[: text.index(stop)]
            assert answer.reason == "stop" and ids_of(given) == ids_of(events)[: len(given)]


def test_a_stop_sequence_that_does_not_come_changes_nothing(chat):
    events = ask(chat)
    text, answer = "".join(event.text for event in events), Answer()
    assert ask(chat, stops=[text + "x", text[-3:] + "x"], answer=answer) == events and answer.reason == "length"


def test_a_text_is_gone_on_with_as_it_stands(chat):
    answer = Answer()
    events = list(chat.stream("The door", settings=GREEDY, answer=answer))
    ids = [chat.tokenizer.bos_token_id, *chat.tokenizer("The door", add_special_tokens=False)["input_ids"]]
    out = chat.base.generate(input_ids=torch.tensor([ids], device=DEVICE), do_sample=False, max_new_tokens=12)
    assert answer.prompt_tokens == len(ids) and ids_of(events) == out[0, len(ids) :].tolist()


def test_with_room_asked_for_nothing_is_left_out(chat):
    long = [{"role": "user", "content": "The door is red. " * 20}, {"role": "assistant", "content": "Yes."}, *ASK]
    answer = Answer()
    ask(chat, messages=long * 6, answer=answer)
    assert answer.dropped > 0
    with pytest.raises(ContextError, match="do not fit"):
        ask(chat, messages=long * 6, room=1)


def test_a_stop_ends_the_answer_after_the_token_under_way(chat):
    stop, answer = threading.Event(), Answer()
    stop.set()
    assert len(ask(chat, stop=stop, answer=answer)) == 1
    assert answer.reason == "stopped"


def test_a_reader_who_leaves_ends_the_work(chat, adapters):
    threads = set(threading.enumerate())
    stream = chat.stream(ASK, adapter=adapters(), settings=GenerationSettings(max_tokens=100))
    next(stream)
    stream.close()
    assert set(threading.enumerate()) <= threads
    assert ids_of(ask(chat, adapter=adapters())) == by_transformers(chat.model, chat)


def test_an_answer_of_full_length_says_so(chat):
    answer = Answer()
    assert len(ask(chat, answer=answer)) == 12
    assert answer.reason == "length"


def test_an_answer_ends_before_the_end_token(chat):
    whole, answer = ids_of(ask(chat)), Answer()
    chat.tokenizer.eos_token_id = whole[5]
    assert ids_of(ask(chat, answer=answer)) == whole[: whole.index(whole[5])]
    assert answer.reason == "end"


def conversation(turns: int) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": "Be brief."}]
    for i in range(turns):
        messages += [
            {"role": "user", "content": f"Which colour {i}?"},
            {"role": "assistant", "content": "red"},
        ]
    return [*messages, {"role": "user", "content": "And the tree?"}]


def test_a_long_conversation_loses_its_oldest_turns_and_says_how_many(chat):
    messages, answer = conversation(12), Answer()
    ask(chat, messages, answer=answer)
    kept = [messages[0], *messages[1 + answer.dropped :]]
    assert answer.dropped > 0 and answer.dropped % 2 == 0
    assert answer.prompt_tokens == len(encode_prompt(chat.tokenizer, kept)) <= 128 - 12
    fuller = [messages[0], *messages[answer.dropped - 1 :]]
    assert len(encode_prompt(chat.tokenizer, fuller)) > 128 - 12


def test_a_short_conversation_keeps_every_message(chat):
    answer = Answer()
    ask(chat, conversation(1), answer=answer)
    assert answer.dropped == 0


def test_a_message_too_long_for_the_model_is_refused_plainly(chat):
    long = [{"role": "user", "content": "Which colour? " * 60}]
    with pytest.raises(UserError, match=r"The message has \d+ tokens; 116 fit this model beside the answer"):
        ask(chat, long)


def test_an_answer_never_grows_beyond_the_context(chat):
    settings, answer = GenerationSettings(temperature=0.0, max_tokens=4096), Answer()
    events = ask(chat, settings=settings, answer=answer)
    assert answer.prompt_tokens + len(events) <= 128


@pytest.mark.parametrize("text", ["Zoë sagt „ja“", "漢字かな", "🙂👩‍👩‍👧 ok", "a\n\nb  c"])
def test_pieces_of_text_never_hold_half_a_character(chat, text):
    events: queue.Queue[Any] = queue.Queue()
    for token in chat.tokenizer.encode(text, add_special_tokens=False):
        events.put((token, None))
    events.put(None)
    pieces = [e.text for e in chat._pieces(events, Answer(), GREEDY, threading.Event())]
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)


def test_a_muted_and_a_forced_expert_change_the_answers_gates(chat, adapters):
    muted = ask(chat, adapter=adapters(), factors={1: 0.0})
    assert all(layer[1] == 0.0 for event in muted for layer in event.gates)
    forced = ask(chat, adapter=adapters(), force=2)
    assert all(layer == [0.0, 0.0, 1.0, 0.0] for event in forced for layer in event.gates)


def test_an_override_ends_with_its_answer(chat, adapters):
    before = ask(chat, adapter=adapters())
    ask(chat, adapter=adapters(), factors={0: 0.0, 1: 3.0})
    assert ask(chat, adapter=adapters()) == before


def test_an_expert_that_does_not_exist_is_refused(chat, adapters):
    with pytest.raises(AdapterError, match=r"`expert` must be between 0 and 3, got 4\."):
        ask(chat, adapter=adapters(), force=4)


def test_adapters_answer_in_turn_as_if_alone(chat, adapters, base_folder):
    folders = [adapters(seed=seed) for seed in range(1, 4)]
    alone = [ask(ChatModel(str(base_folder), device=DEVICE), adapter=folder) for folder in folders]
    for number in (0, 1, 2, 1, 0):
        assert ask(chat, adapter=folders[number]) == alone[number]


def test_methods_that_cannot_live_together_take_turns(chat, adapters):
    base = ask(chat)
    for method in ("hydralora", "lora", "prompt_tuning", "ia3", "hydralora"):
        assert ids_of(ask(chat, adapter=adapters(method))) == by_transformers(chat.model, chat)
    assert ask(chat) == base
    chat.unload()
    assert ask(chat) == base


def test_the_adapter_used_longest_ago_leaves_first(chat, adapters):
    folders = [adapters(seed=seed) for seed in range(1, MAX_ADAPTERS + 2)]
    for folder in (*folders[:-1], folders[0], folders[-1]):
        ask(chat, adapter=folder, settings=GenerationSettings(max_tokens=1))
    assert list(chat.adapters) == [str(f) for f in (*folders[2:-1], folders[0], folders[-1])]


def test_an_adapter_of_another_base_is_refused(chat, adapters, tmp_path):
    shutil.copytree(adapters(), tmp_path / "adapter")
    facts = {"config": {"base": "other"}, "base_fingerprint": fingerprint(make_llama(seed=9)).now}
    (tmp_path / "adapter" / "run.json").write_text(json.dumps(facts))
    with pytest.raises(AdapterError, match=r"trained on another base model \(other\)"):
        ask(chat, adapter=tmp_path / "adapter")


def damage_adapter(folder: Path, how: str) -> None:
    """Leave an adapter as a bad disk or a wrong copy would."""
    weights = folder / "adapter_model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif how == "other shape":
        save_file({name: weight[:1].clone() for name, weight in load_file(weights).items()}, weights)
    elif how == "no weights":
        weights.unlink()
    elif how == "pickled":
        weights.unlink()
        torch.save({}, folder / "adapter_model.bin")
    elif how == "no config":
        (folder / "adapter_config.json").unlink()
    else:
        (folder / "adapter_config.json").write_text("{")


HOW = ["truncated", "other shape", "no weights", "pickled", "no config", "broken config"]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize("how", HOW)
def test_a_damaged_adapter_is_refused_and_leaves_no_trace(chat, adapters, tmp_path, how, beside):
    if beside:
        ask(chat, adapter=adapters(seed=2))
    before, modules = (
        ask(chat, adapter=adapters(seed=2) if beside else None),
        len(list(chat.model.modules())),
    )
    shutil.copytree(adapters(), tmp_path / "run" / "adapter")
    damage_adapter(tmp_path / "run" / "adapter", how)
    with pytest.raises(AdapterError) as error:
        ask(chat, adapter=tmp_path / "run" / "adapter")
    assert "\n" not in str(error.value) and "run" in str(error.value)
    assert len(list(chat.model.modules())) == modules
    assert ask(chat, adapter=adapters(seed=2) if beside else None) == before


# What one answer makes of another one's words


@pytest.mark.parametrize("method", ["hydralora", "lora", "prompt_tuning"])
def test_scored_words_have_the_probabilities_of_a_full_forward_pass(chat, adapters, method):
    tokens = ids_of(ask(chat, adapter=adapters(method)))
    found = chat.score(ASK, tokens, adapter=adapters(method))
    prompt = encode_prompt(chat.tokenizer, ASK)
    with torch.inference_mode():
        logits = chat.model(input_ids=torch.tensor([prompt + tokens], device=DEVICE)).logits[0, -len(tokens) - 1 : -1]
    wanted = [float(row.softmax(-1)[token]) for row, token in zip(logits, tokens, strict=True)]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_the_words_of_a_greedy_answer_are_the_likeliest_of_their_own_variant(chat, adapters):
    tokens = ids_of(ask(chat, adapter=adapters()))
    found = chat.score(ASK, tokens, adapter=adapters())
    other = chat.score(ASK, [(token + 1) % len(chat.tokenizer) for token in tokens[:1]], adapter=adapters())
    assert found[0] > other[0] and len(found) == len(tokens)


def test_muting_every_expert_weighs_as_the_base_does(chat, adapters):
    tokens = ids_of(ask(chat, adapter=adapters()))
    muted = chat.score(ASK, tokens, adapter=adapters(), factors={0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0})
    assert muted == pytest.approx(chat.score(ASK, tokens), abs=1e-6)
    assert muted != pytest.approx(chat.score(ASK, tokens, adapter=adapters()), abs=1e-6)


def test_words_beyond_the_context_are_not_scored(chat, adapters):
    assert len(chat.score(ASK, [1] * 10_000, adapter=adapters())) < 10_000
    assert chat.score(ASK, [], adapter=adapters()) == []


def test_a_change_of_one_layer_leaves_the_gates_of_the_others(chat, adapters):
    answer = Answer()
    plain = ask(chat, adapter=adapters(), answer=answer)[0].gates
    name = answer.layers[0]
    changed = ask(chat, adapter=adapters(), layers={name: Change(factors={1: 0.0})})[0].gates
    assert changed[0][1] == 0.0 and changed[0][0] == pytest.approx(plain[0][0])
    assert all(row[1] > 0 for row in changed[1:])


def test_one_expert_can_speak_alone_in_one_layer_while_another_is_muted_everywhere(chat, adapters):
    answer = Answer()
    ask(chat, adapter=adapters(), answer=answer)
    layers = {answer.layers[2]: Change(force=3)}
    gates = ask(chat, adapter=adapters(), factors={0: 0.0}, layers=layers)[0].gates
    assert gates[2] == [0.0, 0.0, 0.0, 1.0]
    assert all(row[0] == 0.0 for row in gates) and sum(gates[1]) < 1


def test_a_change_of_a_layer_that_does_not_exist_is_refused(chat, adapters):
    with pytest.raises(AdapterError, match="Layer 'nowhere' has no experts here"):
        ask(chat, adapter=adapters(), layers={"nowhere": Change(force=0)})
