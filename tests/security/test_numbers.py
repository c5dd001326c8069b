"""Numbers and texts from outside: bounded on both sides, finite, and refused in one sentence."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError

from hydralora import answer_settings, bounds, config, methods
from hydralora.bounds import checked
from hydralora.config import parse_config
from hydralora.errors import UserError
from hydralora.plain import json_text
from hydralora.tuner.config import HydraLoraConfig
from jobs.chat import server as model_server
from jobs.home import Home
from jobs.store.store import Store
from studio.cli import main as cli
from studio.cli.runs import parse_setting
from studio.form import collect
from studio.pages.common import Pages, address_id, chosen_id, shows_errors
from studio.web import chat_api
from studio.web.api import explain_errors
from tests.security.studio_client import events_of, make_client, send_event

FAR = [2**53 + 1, 2**63, 10**30, -1, -(2**63) - 1, -(10**30)]
NO_NUMBERS = [math.nan, math.inf, -math.inf]


def models() -> list[type[BaseModel]]:
    """Everything that settings, questions and answers are read into."""
    found = [
        item
        for module in (config, methods, answer_settings, chat_api, model_server)
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, BaseModel)
    ]
    return sorted({item for item in found if item.model_fields}, key=lambda item: (item.__module__, item.__name__))


def nodes(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a JSON schema with its place."""
    if isinstance(schema, dict):
        yield where, schema
        for name, inner in schema.items():
            yield from nodes(inner, f"{where}/{name}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from nodes(inner, where)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Home(tmp_path / "home"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with make_client(Home(tmp_path_factory.mktemp("numbers") / "home")) as opened:
        yield opened


# Settings


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_number_has_a_lowest_and_a_highest_value(model: type[BaseModel]) -> None:
    for where, node in nodes(model.model_json_schema()):
        if node.get("type") in ("integer", "number"):
            assert node.keys() & {"minimum", "exclusiveMinimum"} and node.keys() & {"maximum", "exclusiveMaximum"}, (
                where
            )


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_text_and_list_has_a_longest_length(model: type[BaseModel]) -> None:
    for where, node in nodes(model.model_json_schema()):
        if node.get("type") == "string" and not node.keys() & {"enum", "const"}:
            assert "maxLength" in node, where
        if node.get("type") == "array":
            assert "maxItems" in node, where
        if isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, where


@pytest.mark.parametrize("wrong", NO_NUMBERS)
@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_what_is_no_number_is_no_setting(model: type[BaseModel], wrong: float) -> None:
    for name, field in model.model_fields.items():
        if field.annotation in (int, float):
            with pytest.raises(ValidationError) as error:
                model.model_validate({name: wrong})
            assert name in {found["loc"][0] for found in error.value.errors()}


@pytest.mark.parametrize(
    "setting",
    [
        "train.seed=1e308",
        "train.seed=" + "9" * 5_000,
        "adapter.lora_alpha=Infinity",
        "adapter.lora_alpha=NaN",
        "adapter.r=1e30",
        "train.max_steps=-1e30",
        "train.learning_rate=NaN",
        'train.scheduler="\\ud800"',
        "train.seed=" + "[" * 5_000,
        "train.patience=1e308",
        "train.patience=" + "9" * 20,
        "train.neftune_noise=NaN",
        "train.b_rate=1e308",
        "train.router_rate=-1",
        "train.order=evil",
        "train.optimizer=os.system",
        "train.selection=../../x",
        "train.edits=../../x",
    ],
)
def test_a_setting_out_of_bounds_is_named_in_one_short_sentence(setting: str) -> None:
    part, name, value = parse_setting(setting)
    with pytest.raises(UserError, match=f"`.*{name}`: ") as error:
        parse_config({part: {name: value}})
    assert len(str(error.value)) < 300 and str(error.value).isprintable()


@pytest.mark.parametrize(
    "given",
    [
        {"r": 10**30},
        {"r": 1e308},
        {"r": "8"},
        {"r": True},
        {"num_experts": 10**9},
        {"lora_alpha": math.inf},
        {"lora_alpha": math.nan},
        {"lora_alpha": "x"},
        {"lora_dropout": math.nan},
        {"balance_weight": -1.0},
        {"rank_pattern": {"q": 10**9}},
        {"alpha_pattern": {"q": math.nan}},
        {"layers_to_transform": [10**30]},
        {"head_mask": [1e308]},
    ],
)
def test_an_adapters_own_numbers_are_bounded_too(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"`{next(iter(given))}"):
        HydraLoraConfig(**given)


def test_a_message_names_a_field_by_its_name_alone() -> None:
    with pytest.raises(UserError) as error:
        checked(bounds.GivenRoles, {"prompt": "x" * 2_000}, "roles")
    assert str(error.value).startswith("`roles.prompt`: ") and "function" not in str(error.value)


def test_a_form_refuses_what_no_form_sends() -> None:
    names = config.TrainConfig.model_fields
    good = {name: field.get_default() for name, field in names.items()}
    for name, wrong in (("seed", 1e308), ("max_steps", "many"), ("learning_rate", math.nan), ("scheduler", ["cosine"])):
        with pytest.raises(UserError, match=name):
            parse_config({"train": collect(config.TrainConfig, {**good, name: wrong})})


# The store

LOOK_UPS: dict[str, Callable[[Store, Any], Any]] = {
    "run": lambda store, key: store.runs.get(key),
    "corpus": lambda store, key: store.corpora.get(key),
    "clustering": lambda store, key: store.clusterings.get(key),
    "analysis": lambda store, key: store.analyses.get(key),
    "ready corpus": lambda store, key: store.corpora.ready(key),
    "import again": lambda store, key: store.corpora.import_again(key, {}),
    "rename": lambda store, key: store.runs.rename(key, "name"),
    "delete run": lambda store, key: store.runs.delete(key),
    "delete corpus": lambda store, key: store.corpora.delete(key),
    "start": lambda store, key: store.runs.start(key, {}),
    "stop": lambda store, key: store.runs.stop(key),
    "resume": lambda store, key: store.runs.resume(key),
    "look": lambda store, key: store.analyses.ask(key, "weights"),
    "job": lambda store, key: store.queue.get(key),
    "stop job": lambda store, key: store.queue.stop(key),
    "conversation": lambda store, key: store.chats.get(key),
    "messages": lambda store, key: store.chats.messages(key),
    "message": lambda store, key: store.chats.message(key),
    "delete conversation": lambda store, key: store.chats.delete(key),
    "ask": lambda store, key: store.chats.ask(key, "What?"),
}


@pytest.mark.parametrize(
    "key",
    [*FAR, 10**5_000, True, "1", None, [1], math.nan],
    ids=lambda key: str(type(key)) if key == 10**5_000 else repr(key)[:20],
)
@pytest.mark.parametrize("look_up", LOOK_UPS.values(), ids=LOOK_UPS)
def test_an_id_that_none_can_have_does_not_exist(store: Store, look_up: Callable[[Store, Any], Any], key: Any) -> None:
    with pytest.raises(UserError, match=r"does not exist\.") as error:
        look_up(store, key)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("key", [*FAR, "1", [1]])
def test_lists_of_such_an_id_are_empty(store: Store, key: Any) -> None:
    assert store.runs.steps(key) == [] and store.clusterings.latest(key) is None
    assert store.analyses.find(key, "weights") is None


def test_a_number_that_no_column_holds_is_refused_in_words(store: Store) -> None:
    with pytest.raises(UserError, match="larger than the database can hold"):
        store.chats.write_answer(2**70, text="")


def test_halves_of_a_character_and_nul_are_stored_as_the_sign_for_them(store: Store) -> None:
    made = store.chats.create("a\ud800b", system="\x00\udfff")
    assert (store.chats.get(made.id).title, store.chats.get(made.id).system) == ("a b", "\ufffd\ufffd")
    store.settings.set("key", {"text": "a\ud800b", "loss": math.nan})
    assert store.settings.get("key") == {"text": "a\ufffdb", "loss": None}


# Addresses


def conversation(client: TestClient) -> str:
    return f"/ui/chat/conversations/{client.post('/ui/chat/conversations').json()['id']}"


@pytest.mark.parametrize(
    "variant",
    [
        '{"run_id": -1e30}',
        '{"run_id": 99999999999999999999}',
        '{"step": -1}',
        '{"factors": {"0": NaN}}',
        '{"factors": {"0": 1e308}}',
        '{"factors": {"99": 1}}',
        '{"force": 1e9}',
        '{"settings": {"temperature": Infinity}}',
        '{"settings": {"seed": 1e308}}',
        '{"layers": {"x": {"force": -1}}}',
        '{"magic": 1}',
        '{"run_id": ' + "9" * 5_000 + "}",
    ],
)
def test_a_question_out_of_bounds_is_refused_in_one_sentence(client: TestClient, variant: str) -> None:
    content = '{"text": "Hello", "variants": [%s]}' % variant  # noqa: UP031  # braces are JSON's
    reply = client.post(f"{conversation(client)}/ask", content=content, headers={"Content-Type": "application/json"})
    detail = reply.json()["detail"]
    assert reply.status_code in (400, 422) and isinstance(detail, str) and detail.endswith((".", "body"))
    assert "object Object" not in detail and len(detail) < 400


@pytest.mark.parametrize("query", ["layer=1e999", "layer=99999999999999999999", "step=-99", "what=" + "x" * 9_000])
def test_a_figure_out_of_bounds_names_what_was_wrong(client: TestClient, query: str) -> None:
    reply = client.get(f"/ui/figures/analyses/1/layers?{query}")
    assert reply.status_code == 422 and reply.json()["detail"].startswith(f"`{query.partition('=')[0]}`: ")


def test_a_title_with_half_a_character_can_be_read_again(client: TestClient) -> None:
    place = conversation(client)
    assert (
        client.post(
            place, content='{"title": "a\\ud800b", "system": "\\u0000"}', headers={"Content-Type": "application/json"}
        ).status_code
        == 200
    )
    assert client.get(place).json()["title"] == "a\ufffdb" and client.get(f"{place}/export.md").status_code == 200


def test_a_bug_tells_nothing_of_the_insides() -> None:
    app = FastAPI()
    explain_errors(app)

    @app.get("/")
    def broken() -> None:
        raise RuntimeError("/home/somebody/secret.db")

    reply = TestClient(app, raise_server_exceptions=False).get("/")
    assert reply.status_code == 500 and reply.json() == {
        "detail": "Something unexpected failed. The studio's log holds the details."
    }


# Commands

COMMANDS = {
    "runs show 99999999999999999999": "run_id",
    "runs show -1": "",
    "corpora show 1e308": "corpus_id",
    "inspect 1 --compare 99999999999999999999": "--compare",
    "runs start --corpus 99999999999999999999": "--corpus",
    "corpora cluster 1 --seed 99999999999": "--seed",
    "corpora cluster 1 --k 99999999999": "--k",
    "corpora cluster 1 --k NaN": "--k",
    "tour --minutes nan": "`minutes`",
    "tour --minutes inf": "`minutes`",
    "doctor --port 99999999999": "--port",
    "chat 1 Hello --temperature nan": "`temperature`",
    "chat 1 Hello --top-p inf": "`top_p`",
    "chat 1 Hello --seed -1": "`seed`",
    "chat 1 Hello --max-tokens 99999999999": "`max_tokens`",
    "chat 1 Hello --step -1": "--step",
    "chat 1 Hello --scale E1=nan": "factors",
    "chat 1 Hello --scale E1=1e308": "factors",
    "chat 1 Hello --expert E99999": "E99999",
    "chat 1 Hello --mute E99": "factors",
    "corpora select 1 --cluster 99999999999999999999": "`selection.clusters",
    "corpora select 1 --min-tokens 99999999999999999999": "`selection.min_tokens`",
    "corpora select 1 --rows 0-99999999999": "`--rows`",
    "corpora select 1 --rows 0-9999999,0-9999999,0-9999999": "`--rows`",
    "corpora exclude 1 --rows 0-9999999,0-9999999": "`--rows`",
    "corpora edit 1 99999999999999999999 --answer x": "'row'",
    "corpora revert 99999999999999999999": "'edit_id'",
    "corpora forget 99999999999999999999": "'selection_id'",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_with_a_number_out_of_bounds_says_which(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--home", str(tmp_path), *line.split()])
    told = capfd.readouterr()
    assert ended.value.code == 2 and told.out == "" and len(told.err.splitlines()) == 1
    assert COMMANDS[line].lower() in told.err.lower() and "does not exist" not in told.err
    assert not (tmp_path / "worker.log").exists(), "a refused command starts no worker"


# Pages


@pytest.mark.parametrize("value", ["5", None, True, -1, 2**54, 1.0, math.nan, [1]])
def test_an_input_for_an_id_holds_none_of_anything_else(value: Any) -> None:
    assert chosen_id(value) is None and chosen_id(5) == 5


@pytest.mark.parametrize("value", ["9" * 25, "-1", "x", "", "1e3", "%ff", "9" * 5_000])
def test_an_id_in_a_pages_address_is_a_small_whole_number(value: str) -> None:
    class Asked:
        query_params = {"run": value}  # noqa: RUF012

    assert address_id(Asked(), "run") is None  # type: ignore[arg-type]


def test_every_event_of_every_page_tells_its_errors(client: TestClient) -> None:
    assert all(getattr(event.fn, "shows_errors", False) for event in events_of(client).values())


def test_a_value_that_does_not_fit_is_refused_without_the_choices(client: TestClient) -> None:
    number, event = next(
        (n, e) for n, e in events_of(client).items() if e.fn is not None and e.fn.__name__ == "use_sample"
    )
    assert (
        send_event(client, number, event, ["/etc/passwd"])["error"]
        == "A field holds a value that it cannot have. Reload the page and choose again."
    )


def test_a_bug_in_an_event_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    with Pages() as pages:
        box = gr.Textbox()
        box.change(lambda text: {}[text], box, box)
    pages.protect()
    with pytest.raises(gr.Error, match="Something unexpected failed"):
        next(iter(pages.fns.values())).fn("secret")  # type: ignore[misc]
    assert "KeyError" in caplog.text


def test_errors_are_turned_into_messages_once_only() -> None:
    once = shows_errors(lambda: None)
    assert shows_errors(once) is once


# What machines read


def test_json_for_machines_has_no_nan_and_nothing_unseen() -> None:
    text = json_text({"a": [math.nan, math.inf, 1.5], "b": "\x1b\x9b\u202e\ud800\x7f\U000e0041é", "\x1b": "\n"})
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"a": [None, None, 1.5], "b": "\x1b\x9b\u202e\ufffd\x7f\U000e0041é", "\x1b": "\n"}
    assert text.isprintable() and "é" in text
