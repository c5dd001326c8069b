"""OpenAI's own client, against the endpoint over a real model server with the starter and two adapters."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from hydralora.answer_settings import GenerationSettings
from jobs.home import Home
from jobs.store.records import Run
from jobs.store.store import Store
from studio.web.endpoint.desk import MOST_ANSWERS
from studio.web.server import create_app
from tests.studio.conftest import wait_for
from tests.studio.serving import answering_run, endpoint, model_server
from tests.studio.stored import Stored

ASK = [{"role": "user", "content": "The door is red. Which colour has the door?"}]
GREEDY = {"temperature": 0.0, "max_tokens": 12}


@pytest.fixture(scope="module")
def store(home: Home) -> Store:
    store = Store(home)
    store.keys.switch(True)
    return store


@pytest.fixture(scope="module")
def run(store: Store) -> Run:
    return answering_run(Stored(store))


@pytest.fixture(scope="module")
def plain(store: Store, run: Run) -> Run:
    """A run whose adapter has no experts."""
    return answering_run(Stored(store), "lora", seed=2)


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[object]:
    with model_server(home) as server:
        yield server


@pytest.fixture(scope="module")
def address(home: Home, store: Store, server: object) -> Iterator[str]:
    with endpoint(create_app(home, keep_worker=False)) as address:
        yield address


@pytest.fixture(scope="module")
def secret(store: Store) -> str:
    return store.keys.create("tests")[1]


@pytest.fixture
def client(address: str, secret: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=address, api_key=secret, max_retries=0, timeout=120) as client:
        yield client


def name(run: Run) -> str:
    return f"run-{run.id}"


# Models


def test_every_finished_run_and_every_base_is_a_model(client: OpenAI, run: Run, plain: Run) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {name(run), name(plain), "starter"} <= set(listed)
    assert listed[name(run)].model_extra["hydra"]["experts"] == run.config.adapter.experts > 1
    assert listed[name(run)].created == int(run.created_at)


def test_a_model_is_shown_by_its_name(client: OpenAI, run: Run) -> None:
    assert client.models.retrieve(name(run)).model_extra["hydra"]["base"] == "starter"
    assert client.models.retrieve("starter").id == "starter"


def test_a_run_that_is_not_finished_is_no_model(client: OpenAI, store: Store, run: Run) -> None:
    stored = Stored(store)
    waiting = stored.run(stored.corpus(), base="starter", finished=False)
    assert name(waiting) not in {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError, match=f"Run {waiting.id} has no adapter"):
        client.chat.completions.create(model=name(waiting), messages=ASK)
    stored.end_all()


def test_an_unknown_model_is_not_found_and_named(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert refusal.value.code == "model_not_found" and refusal.value.param == "model" and "gpt-4o" in str(refusal.value)


# Answers


def test_a_chat_completion_is_the_answer_of_the_chat(client: OpenAI, run: Run, server: object, home: Home) -> None:
    reply = client.chat.completions.create(model=name(run), messages=ASK, **GREEDY)
    settings = GenerationSettings(**GREEDY)
    events = list(server.model.stream(ASK, adapter=home.adapter(run.id), settings=settings))
    choice = reply.choices[0]
    assert choice.message.content == "".join(event.text for event in events) and choice.message.role == "assistant"
    assert reply.usage.completion_tokens == len(events)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + len(events)
    assert choice.finish_reason == ("length" if len(events) == 12 else "stop")
    assert reply.model == name(run) and reply.object == "chat.completion"


def test_a_stream_adds_up_to_the_whole_answer(client: OpenAI, run: Run) -> None:
    whole = client.chat.completions.create(model=name(run), messages=ASK, **GREEDY)
    usage = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=name(run), messages=ASK, stream=True, stream_options=usage, **GREEDY)
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content and len(chunks) > 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_run_answers_otherwise_than_its_base(client: OpenAI, run: Run) -> None:
    texts = [
        client.chat.completions.create(model=model, messages=ASK, **GREEDY).choices[0].message.content
        for model in (name(run), "starter", name(run))
    ]
    assert texts[0] == texts[2] != texts[1]


def test_a_completion_goes_on_with_the_prompt_as_it_stands(client: OpenAI, server: object) -> None:
    reply = client.completions.create(model="starter", prompt="The door is", **GREEDY)
    events = list(server.model.stream("The door is", settings=GenerationSettings(**GREEDY)))
    assert reply.choices[0].text == "".join(event.text for event in events)
    assert reply.object == "text_completion"
    assert (
        reply.usage.prompt_tokens == len(server.model.tokenizer("The door is")["input_ids"]) + 1
    )  # what begins a text


def test_a_completion_is_streamed_too(client: OpenAI) -> None:
    whole = client.completions.create(model="starter", prompt="The door is", **GREEDY)
    stream = client.completions.create(model="starter", prompt="The door is", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_an_answer_ends_before_a_stop_sequence(client: OpenAI, run: Run) -> None:
    text = client.chat.completions.create(model=name(run), messages=ASK, **GREEDY).choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    reply = client.chat.completions.create(model=name(run), messages=ASK, stop=[stop], **GREEDY)
    assert reply.choices[0].message.content == text[: text.index(stop)] and reply.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(model=name(run), messages=ASK, stop=stop, stream=True, **GREEDY)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text[: text.index(stop)]


def test_the_same_seed_gives_the_same_answer_and_none_a_new_one(client: OpenAI, run: Run) -> None:
    def ask(**more: object) -> str:
        reply = client.chat.completions.create(model=name(run), messages=ASK, max_tokens=24, temperature=1.5, **more)
        return reply.choices[0].message.content

    assert ask(seed=3) == ask(seed=3)
    assert len({ask() for _ in range(4)}) > 1


def test_messages_may_be_parts_and_what_an_earlier_reply_held(client: OpenAI, run: Run) -> None:
    first = client.chat.completions.create(model=name(run), messages=ASK, **GREEDY).choices[0].message
    parts = [{"type": "text", "text": "And the "}, {"type": "text", "text": "boat?"}]
    said = [{"role": "developer", "content": "Be short."}, *ASK, first, {"role": "user", "content": parts}]
    assert client.chat.completions.create(model=name(run), messages=said, **GREEDY).usage.prompt_tokens > 10


# Ours: gates and experts


def test_routing_weights_come_with_every_token_on_request(client: OpenAI, run: Run, server: object, home: Home) -> None:
    reply = client.chat.completions.create(model=name(run), messages=ASK, extra_body={"gates": True}, **GREEDY)
    gates = reply.choices[0].model_extra["gates"]
    settings = GenerationSettings(**GREEDY)
    events = list(server.model.stream(ASK, adapter=home.adapter(run.id), settings=settings))
    assert [token["id"] for token in gates["tokens"]] == [event.id for event in events]
    assert "".join(token["text"] for token in gates["tokens"]) == reply.choices[0].message.content
    for token, event in zip(gates["tokens"], events, strict=True):
        assert len(token["gates"]) == len(gates["layers"])
        assert token["gates"] == [[pytest.approx(gate, abs=6e-4) for gate in layer] for layer in event.gates]


def test_routing_weights_are_streamed_with_their_token(client: OpenAI, run: Run) -> None:
    body = {"gates": True}
    chunks = list(client.chat.completions.create(model=name(run), messages=ASK, stream=True, extra_body=body, **GREEDY))
    layers = chunks[0].choices[0].model_extra["gates"]["layers"]
    for chunk in chunks[1:-1]:
        token = chunk.choices[0].model_extra["gates"]["tokens"][0]
        assert token["text"] == chunk.choices[0].delta.content
        assert len(token["gates"]) == len(layers) and all(
            sum(row) == pytest.approx(1, abs=2e-3) for row in token["gates"]
        )


def test_without_asking_no_routing_weights_come(client: OpenAI, run: Run) -> None:
    reply = client.chat.completions.create(model=name(run), messages=ASK, **GREEDY)
    assert "gates" not in reply.choices[0].model_extra


@pytest.mark.parametrize(
    "experts, change",
    [
        ({"mute": [0, 2]}, {"factors": {0: 0.0, 2: 0.0}}),
        ({"scale": {"1": 8.0}}, {"factors": {1: 8.0}}),
        ({"force": 1}, {"force": 1}),
    ],
)
def test_experts_are_changed_as_in_the_chat(
    client: OpenAI, run: Run, server: object, home: Home, experts: dict, change: dict
) -> None:
    reply = client.chat.completions.create(
        model=name(run), messages=ASK, extra_body={"experts": experts, "gates": True}, **GREEDY
    )
    settings = GenerationSettings(**GREEDY)
    events = list(server.model.stream(ASK, adapter=home.adapter(run.id), settings=settings, **change))
    assert reply.choices[0].message.content == "".join(event.text for event in events)


def test_experts_of_one_layer_are_changed_alone(client: OpenAI, run: Run) -> None:
    def ask(body: dict) -> list:
        reply = client.chat.completions.create(model=name(run), messages=ASK, extra_body=body, **GREEDY)
        return reply.choices[0].model_extra["gates"]

    plain = ask({"gates": True})
    last = plain["layers"][-1]
    changed = ask({"gates": True, "experts": {"layers": {last: {"force": 2}}}})
    assert changed["tokens"][0]["gates"][-1][2] == 1.0 > plain["tokens"][0]["gates"][-1][2]
    assert changed["tokens"][0]["gates"][0] == plain["tokens"][0]["gates"][0]


@pytest.mark.parametrize("model", ["plain", "starter"])
def test_experts_are_refused_where_there_are_none(client: OpenAI, plain: Run, model: str) -> None:
    served = name(plain) if model == "plain" else model
    with pytest.raises(openai.BadRequestError, match="has no experts to change"):
        client.chat.completions.create(model=served, messages=ASK, extra_body={"experts": {"force": 0}})


def test_an_expert_or_layer_that_does_not_exist_is_refused(client: OpenAI, run: Run) -> None:
    for experts in ({"force": 7}, {"layers": {"nowhere": {"mute": [0]}}}):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=name(run), messages=ASK, extra_body={"experts": experts})


# Refusals


@pytest.mark.parametrize(
    "field, value",
    [
        ("n", 2),
        ("frequency_penalty", 0.5),
        ("presence_penalty", -1),
        ("logit_bias", {"5": 1}),
        ("logprobs", True),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "json_object"}),
    ],
)
def test_what_is_not_done_is_refused_by_its_name(client: OpenAI, run: Run, field: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(model=name(run), messages=ASK, **{field: value})
    assert refusal.value.param == field and refusal.value.code == "unsupported_parameter"


def test_values_that_ask_for_nothing_are_taken(client: OpenAI, run: Run) -> None:
    neutral = {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": False, "user": "me", "tools": []}
    assert client.chat.completions.create(model=name(run), messages=ASK, **neutral, **GREEDY).choices


@pytest.mark.parametrize(
    "body, param",
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": -1}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"extra_body": {"experts": {"mute": [99]}}}, "experts"),
        ({"extra_body": {"unheard_of": 1}}, "unheard_of"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(client: OpenAI, run: Run, body: dict, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**{"model": name(run), "messages": ASK, **body})
    assert refusal.value.param == param and refusal.value.type == "invalid_request_error"


def test_more_tokens_than_the_context_are_refused_and_nothing_is_left_out(client: OpenAI, run: Run) -> None:
    for body in ({"messages": [{"role": "user", "content": "door " * 600}]}, {"messages": ASK, "max_tokens": 510}):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model=name(run), **body)
        assert refusal.value.code == "context_length_exceeded" and "512 tokens" in str(refusal.value)


@pytest.mark.parametrize("key", ["hydra-wrong", "sk-something", "x"])
def test_a_wrong_key_opens_nothing(address: str, key: str) -> None:
    with OpenAI(base_url=address, api_key=key, max_retries=0) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_one_request_too_many_is_told_to_come_back(client: OpenAI, run: Run, server: object) -> None:
    codes: list[str | None] = []

    def ask() -> None:
        try:
            client.chat.completions.create(model=name(run), messages=ASK, **GREEDY)
            codes.append(None)
        except openai.RateLimitError as refusal:
            codes.append(refusal.code)
            assert int(refusal.response.headers["retry-after"]) > 0

    with server.turn:
        threads = [threading.Thread(target=ask) for _ in range(MOST_ANSWERS + 2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(codes) >= 2)
    for thread in threads:
        thread.join()
    assert codes.count("busy") == 2 and codes.count(None) == MOST_ANSWERS


def test_whoever_leaves_in_mid_answer_gives_the_turn_to_the_next(client: OpenAI, run: Run, server: object) -> None:
    for _ in range(3):
        with client.chat.completions.create(
            model=name(run), messages=ASK, stream=True, max_tokens=400, temperature=1.5
        ) as stream:
            next(iter(stream))
    wait_for(lambda: not server.turn.is_held and server.waiting == 0)
    with server.turn, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model=name(run), messages=ASK, max_tokens=400)
    wait_for(lambda: not server.turn.is_held and server.waiting == 0)
    assert client.chat.completions.create(model=name(run), messages=ASK, **GREEDY).choices


def test_a_home_served_for_one_run_knows_no_other(home: Home, store: Store, run: Run, plain: Run, secret: str) -> None:
    from studio.web.endpoint.alone import endpoint_app

    app = endpoint_app(store, [run.id], ["127.0.0.1"])
    with endpoint(app) as address, OpenAI(base_url=address, api_key=secret, max_retries=0) as client:
        assert {model.id for model in client.models.list()} == {name(run), "starter"}
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=name(plain), messages=ASK)
