"""Every address, command and event of a page, with hostile values and a fixed budget."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import typer
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from jobs.home import Home
from jobs.store.store import Store
from studio.cli import main as cli
from studio.pages.common import UNEXPECTED
from tests.security.hostile import NUMBERS, SCALARS, TEXTS, VALUES, budget, fill, refusing_worker
from tests.security.studio_client import events_of, make_client, send_event


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    filled = fill(Home(tmp_path_factory.mktemp("fuzz") / "home"))
    with refusing_worker(filled):
        yield filled


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[TestClient]:
    with make_client(store.home) as opened:
        yield opened


@contextlib.contextmanager
def nothing_unexpected(what: object) -> Iterator[None]:
    """No bug is logged and no traceback printed while it lasts."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stderr(said):
            yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert "Traceback" not in said.getvalue(), f"{what}:\n{said.getvalue()[-5_000:]}"


# Addresses

BODY: dict[str, Any] = {
    "text": "Hello",
    "question_id": 1,
    "run_id": 1,
    "base_of": 1,
    "step": 4,
    "settings": {"temperature": 0.5},
    "factors": {"0": 0.5},
    "force": 1,
    "layers": {"layer": {"factors": {"1": 0}}},
    "title": "A title",
    "system": "Be brief.",
    "variants": [{"run_id": 1}],
}
NO_BODY = [b"", b"{", b"\xff\xfe", b"[" * 3_000, b'{"text": 1' + b"0" * 6_000 + b"}", b"NaN", b'{"text": "\\ud800"}']
WRITTEN = st.sampled_from(
    [*map(str, NUMBERS), *(text[:5_000] for text in TEXTS if text != "\ud800" and "\udfff" not in text)]
)


@functools.cache
def addresses(client: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, address and description of every route under ``/ui``, as FastAPI itself describes them."""
    described = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    return [(method, path, route) for path, routes in described.items() for method, route in routes.items()]


def fields(data: st.DataObject, names: list[str]) -> dict[str, Any]:
    """Some of these fields; mostly good, one or two hostile."""
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=4)) if names else []
    return {name: data.draw(st.just(BODY[name]) | st.just(BODY[name]) | VALUES) for name in chosen}


def body_of(data: st.DataObject, route: dict[str, Any], schemas: dict[str, Any]) -> bytes:
    """What the route asks for, or anything at all."""
    if data.draw(st.integers(0, 9)) == 0:
        return data.draw(st.sampled_from(NO_BODY))
    asked = (
        route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    )
    body = fields(data, sorted(schemas.get(asked.rsplit("/", 1)[-1], {}).get("properties", {})))
    if asked.endswith("/Question"):
        variant = fields(data, sorted(schemas["Variant"]["properties"]))
        body = {"text": "Hello", "variants": [variant], **body}
    return json.dumps(body).encode()


@budget(500)
@given(data=st.data())
def test_no_address_breaks_and_every_refusal_is_one_sentence(client: TestClient, data: st.DataObject) -> None:
    method, path, route = data.draw(st.sampled_from(addresses(client)))
    query = []
    for parameter in route.get("parameters", ()):
        known = "1" if method != "delete" else "987"  # what others are tried on stays
        good = ["layers", "loss", "gates", "map", "heads"] if parameter["name"] == "view" else [known, known, "0"]
        value = data.draw(st.sampled_from(good) | st.sampled_from(good) | WRITTEN)
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(value, safe=""))
        elif data.draw(st.booleans()):
            query.append(f"{parameter['name']}={quote(value)}")
    schemas = client.app.openapi()["components"]["schemas"]  # type: ignore[attr-defined]
    content = body_of(data, route, schemas) if method == "post" else None
    headers = {"Content-Type": "application/json"}
    reply = client.request(method, f"{path}?{'&'.join(query)}", content=content, headers=headers)
    assert reply.status_code < 500, (method, path, query, content, reply.text[:500])
    if reply.status_code >= 400:
        detail = reply.json()["detail"]
        assert isinstance(detail, str) and detail and "\n" not in detail and len(detail) < 2_000, detail


# Events of the pages

QUERIES = [
    "",
    *(
        f"?{name}={value}"
        for name in ("corpus", "run", "again", "corpus=1&selection")
        for value in ("1", "1", "0", "9" * 25, "x", "%ff")
    ),
]
POINT = st.fixed_dictionaries({"id": VALUES | st.sampled_from([0, [0, 1]])})
ACTS = ["rename", "split", "exclude", "typical", "borderline", "merge"]  # of the list of clusters
ACTED = st.fixed_dictionaries(
    {"act": st.sampled_from(ACTS) | VALUES, "of": st.lists(st.integers(0, 3), max_size=3) | VALUES}
)
PLACE = st.sampled_from([0, 1, 65_535, -1, *NUMBERS])
LOOP = st.lists(st.tuples(PLACE, PLACE).map(list), max_size=5)
DRAWN = st.fixed_dictionaries(
    {}, optional={"loop": LOOP | VALUES, "rows": st.lists(PLACE, max_size=3) | VALUES}
)  # on the map
CLICKED = st.none() | VALUES | st.fixed_dictionaries({"points": st.lists(VALUES | POINT, max_size=3)}) | ACTED | DRAWN


@functools.cache
def handlers(client: TestClient) -> dict[int, Any]:
    """One event for each handler, after every page was opened once: the choices of its inputs are known then."""
    events = events_of(client)
    for number, event in events.items():
        if not event.inputs and event.fn is not None and event.fn.__name__ in ("load", "first", "fill"):
            send_event(client, number, event, [], query="?corpus=1&run=1")
    known = {
        (event.fn.__qualname__, event.fn.__module__, len(event.inputs)): number for number, event in events.items()
    }  # type: ignore[union-attr]
    return {number: events[number] for number in sorted(known.values())}


def good_value(component: Any) -> st.SearchStrategy[Any]:
    """What a browser would send for this input."""
    kind = type(component).__name__
    if kind in ("Dropdown", "Radio"):
        choices = [value for _, value in component.choices]
        return st.sampled_from(choices if choices else [1, [1], 0, "layer", None])
    plain = {"Checkbox": False, "Textbox": "a text", "HTML": "", "File": None}
    return st.just(plain[kind] if kind in plain else component.value)


def test_every_handler_is_tried(client: TestClient) -> None:
    assert len(handlers(client)) >= 50


@budget(700)
@given(data=st.data())
def test_no_event_of_a_page_breaks(client: TestClient, data: st.DataObject) -> None:
    number, event = data.draw(st.sampled_from(sorted(handlers(client).items())))
    hostile = data.draw(st.integers(0, len(event.inputs)))  # one of the inputs, or none
    values = [data.draw(VALUES if place == hostile else good_value(part)) for place, part in enumerate(event.inputs)]
    query, clicked = data.draw(st.sampled_from(QUERIES)), data.draw(CLICKED)
    with nothing_unexpected((number, event.name, values, query, clicked)):
        answer = send_event(client, number, event, values, query=query, data=clicked)
    error = answer.get("error", "none")
    assert isinstance(error, str) and error != UNEXPECTED, (number, event.name, values, answer)


# Commands

GOOD = {
    "run_id": "1",
    "corpus_id": "1",
    "corpus": "1",
    "how": "uniform",
    "k": "2",
    "preset": "Quick",
    "base": "starter",
    "method": "hydralora",
    "r": "2",
    "max_steps": "3",
    "paths": "four-trades",
    "prompt": "Hello",
    "settings": "train.seed=1",
    "mute": "E1",
    "scale": "E1=0.5",
    "only": "E2",
    "minutes": "1",
}
WORDS = SCALARS.map(str) | st.sampled_from(
    [
        "E1=NaN",
        "E" + "9" * 30,
        "E1=1e400",
        "train.seed=1e308",
        "adapter.lora_alpha=Infinity",
        "adapter.target_modules=5",
        "train.seed=" + "9" * 5_000,
        "train.x=" + "[" * 3_000,
    ]
)


@functools.cache
def commands() -> list[tuple[tuple[str, ...], Any]]:
    """The words of every command, with what it takes."""
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(words: tuple[str, ...], command: Any) -> None:
        inside = getattr(command, "commands", None)
        if inside is None:
            found.append((words, command))
        for name, child in (inside or {}).items():
            walk((*words, name), child)

    walk((), typer.main.get_command(cli.app))
    # A server works until it is ended, and a worker may be waited for; the doctor starts a process that imports torch.
    return [(words, command) for words, command in found if words not in (("worker", "start"), ("serve",), ("doctor",))]


def run_command(words: list[str]) -> tuple[int, str]:
    """Run a command in this process; gives its exit status and what it said. Anything but its end is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0), out.getvalue() + err.getvalue()


@budget(300)
@given(data=st.data())
def test_no_command_ends_in_a_traceback(store: Store, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    words, command = data.draw(st.sampled_from(commands()))
    line, hostile = ["--home", str(store.home.root), *words], data.draw(st.integers(0, len(command.params)))
    for place, parameter in enumerate(command.params):
        is_option = parameter.param_type_name == "option"
        wanted = not is_option or place == hostile or data.draw(st.integers(0, 2)) == 0
        if parameter.name in ("help", "breakdown", "adapter") or not wanted:
            continue
        known = GOOD.get(str(parameter.name), "1") if words[-1] != "delete" else "987"  # what others are tried on stays
        value = data.draw(WORDS) if place == hostile else known
        name = max(parameter.opts, key=len)
        line.append(value if not is_option else name if parameter.is_flag else f"{name}={value}")
    status, said = run_command(line)
    assert status in (0, 1, 2, 3) and "Traceback" not in said, (line, said)
