"""The endpoint: off until it is switched on, opened by keys alone, and bounded before anything is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from jobs.home import Home
from jobs.http import MOST_BODY
from jobs.store.keys import MOST_KEYS
from jobs.store.store import Store
from studio.web.door import FREE_TRIES
from studio.web.endpoint.alone import endpoint_app
from studio.web.server import create_app
from tests.security.conftest import ADDRESS

PATHS = [("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/v1")]
ASK = {"model": "starter", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def client(tmp_path: Any) -> Iterator[TestClient]:
    """Whoever comes without a cookie, to a home of each test's own, since wrong tries are counted."""
    app = create_app(Home(tmp_path / "home"), keep_worker=False)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def store(client: TestClient) -> Store:
    """The one that the studio has opened."""
    found: Store = client.app.state.store
    return found


@pytest.fixture(scope="module")
def insider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Whoever has a key, of one studio that is switched on; for what is refused without a trace."""
    app = create_app(Home(tmp_path_factory.mktemp("insider") / "home"), keep_worker=False)
    keys = app.state.store.keys
    keys.switch(True)
    headers = bearer(keys.create("mine")[1])
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, headers=headers) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def refusal(reply: Any) -> dict[str, Any]:
    """The error of a refusal, in the shape that clients read."""
    found = reply.json()
    assert set(found) == {"error"} and set(found["error"]) == {"message", "type", "param", "code"}
    return found["error"]


@pytest.mark.parametrize("method, path", PATHS)
def test_it_is_off_until_somebody_switches_it_on(client: TestClient, store: Store, method: str, path: str) -> None:
    _, secret = store.keys.create("mine")
    for headers in ({}, bearer(secret), bearer(client.app.state.door.secret)):
        reply = client.request(method, path, headers=headers)
        assert reply.status_code == 404 and refusal(reply)["code"] == "endpoint_off"


@pytest.mark.parametrize("method, path", PATHS)
def test_neither_the_studios_token_nor_its_cookie_opens_it(
    client: TestClient, store: Store, method: str, path: str
) -> None:
    store.keys.switch(True)
    client.get(f"/?token={client.app.state.door.secret}")
    assert client.get("/ui/health").status_code == 200
    assert client.request(method, path).status_code == 401
    reply = client.request(method, path, headers=bearer(client.app.state.door.secret))
    assert reply.status_code == 401 and refusal(reply)["type"] == "authentication_error"


@pytest.mark.parametrize("path", ["/ui/health", "/", "/ui/chat/start", "/config", "/v1x", "/ui/v1/models"])
def test_a_key_opens_nothing_but_the_endpoint(client: TestClient, store: Store, path: str) -> None:
    store.keys.switch(True)
    _, secret = store.keys.create("mine")
    assert client.get("/v1/models", headers=bearer(secret)).status_code == 200
    assert client.get(path, headers=bearer(secret)).status_code == 401


def test_a_revoked_key_opens_nothing(client: TestClient, store: Store) -> None:
    store.keys.switch(True)
    (_, one), (_, other) = store.keys.create("one"), store.keys.create("other")
    store.keys.revoke("one")
    assert client.get("/v1/models", headers=bearer(one)).status_code == 401
    assert client.get("/v1/models", headers=bearer(other)).status_code == 200


def test_the_secret_of_a_key_is_nowhere_in_the_home(store: Store) -> None:
    _, secret = store.keys.create("mine")
    with sqlite3.connect(store.home.root / "studio.db") as database:
        dump = "\n".join(database.iterdump())
    assert "mine" in dump and secret not in dump and secret[6:-4] not in dump
    for path in store.home.root.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_wrong_keys_are_slowed_down_and_right_ones_never(client: TestClient, store: Store) -> None:
    store.keys.switch(True)
    _, secret = store.keys.create("mine")
    codes = [client.get("/v1/models", headers=bearer(f"hydra-{i}")).status_code for i in range(FREE_TRIES + 1)]
    assert codes == [401] * FREE_TRIES + [429]
    reply = client.get("/v1/models", headers=bearer("hydra-again"))
    assert int(reply.headers["retry-after"]) > 0 and refusal(reply)["type"] == "rate_limit_error"
    assert client.get("/v1/models", headers=bearer(secret)).status_code == 200


def test_a_key_that_was_used_says_when(client: TestClient, store: Store) -> None:
    store.keys.switch(True)
    _, secret = store.keys.create("mine")
    assert store.keys.all()[0].used_at is None
    client.get("/v1/models", headers=bearer(secret))
    assert store.keys.all()[0].used_at is not None


@pytest.mark.parametrize("name", ["", " ", "\x00", "\u202e"])
def test_a_key_has_a_name(store: Store, name: str) -> None:
    with pytest.raises(UserError, match="name is empty"):
        store.keys.create(name)


def test_keys_are_bounded_in_number_and_each_has_a_name_of_its_own(store: Store) -> None:
    for number in range(MOST_KEYS):
        store.keys.create(f"key {number}")
    with pytest.raises(UserError, match="already"):
        store.keys.create("key 3")
    with pytest.raises(UserError, match="the most that are kept"):
        store.keys.create("one more")


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_another_site_asks_nothing(client: TestClient, store: Store, origin: str) -> None:
    store.keys.switch(True)
    headers = {**bearer(store.keys.create("mine")[1]), "Origin": origin}
    reply = client.post("/v1/chat/completions", json=ASK, headers=headers)
    assert reply.status_code == 403 and "access-control-allow-origin" not in reply.headers


def test_a_foreign_host_name_is_refused(client: TestClient, store: Store) -> None:
    store.keys.switch(True)
    headers = {**bearer(store.keys.create("mine")[1]), "Host": "evil.example"}
    assert client.get("/v1/models", headers=headers).status_code == 400


def test_without_the_page_the_same_guards_stand(store: Store) -> None:
    _, secret = store.keys.create("mine")
    client = TestClient(endpoint_app(store, None, ["127.0.0.1"]), base_url=ADDRESS, raise_server_exceptions=False)
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers=bearer(secret)).status_code == 200
    assert client.get("/v1/models", headers={**bearer(secret), "Host": "evil.example"}).status_code == 400
    origin = {**bearer(secret), "Origin": "http://evil.example"}
    assert client.post("/v1/chat/completions", json=ASK, headers=origin).status_code == 403
    for path in ("/", "/ui/health", "/ui/chat/start", "/config", "/gradio_api/app_id"):
        assert client.get(path, headers=bearer(secret)).status_code == 404


def test_a_body_longer_than_the_bound_is_refused_and_a_strangers_is_not_read(client: TestClient, store: Store) -> None:
    store.keys.switch(True)
    body = b" " * (MOST_BODY + 1)
    assert client.post("/v1/chat/completions", content=body).status_code == 401
    reply = client.post("/v1/chat/completions", content=body, headers=bearer(store.keys.create("mine")[1]))
    assert reply.status_code == 413 and refusal(reply)["type"] == "invalid_request_error"


DEEP = '{"model": "starter", "messages": ' + "[" * 5_000 + "]" * 5_000 + "}"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        '"text"',
        "\ud83d\ude00",
        DEEP,
        '{"model": "starter"}',
        '{"model": ["starter"], "messages": []}',
        '{"model": "../../etc/passwd", "messages": [{"role": "user", "content": "x"}]}',
        '{"model": "run-99999999999999999999", "messages": [{"role": "user", "content": "x"}]}',
        '{"model": "starter", "messages": "x"}',
        '{"model": "starter", "messages": [1]}',
        '{"model": "starter", "messages": [{"role": "user"}]}',
        '{"model": "starter", "messages": [{"role": "user", "content": {"a": 1}}]}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "temperature": 1e400}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1e9}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "stop": {"a": 1}}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "run_id": 1}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "experts": {"scale": {"a": 1}}}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "experts": {"scale": {"0": 1e300}}}',
        '{"model": "starter", "messages": [{"role": "user", "content": "x"}], "experts": {"layers": {"(a+)+$": {}}}}',
        json.dumps({**ASK, "messages": ASK["messages"] * 201}),
        json.dumps({**ASK, "messages": [{"role": "user", "content": "x" * 100_001}]}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_body_that_is_none_is_refused_in_one_sentence(insider: TestClient, path: str, body: str) -> None:
    reply = insider.post(path, content=body.encode("utf-8", "surrogatepass"))
    assert 400 <= reply.status_code < 500
    said = refusal(reply)["message"]
    assert said.endswith(".") and len(said) < 1_500 and "insider" not in said


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v1/nothing"),
        ("GET", "/v1/models/%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd"),
        ("DELETE", "/v1/models/starter"),
        ("GET", "/v1/"),
    ],
)
def test_what_is_no_address_of_it_is_said_so(insider: TestClient, method: str, path: str) -> None:
    reply = insider.request(method, path)
    assert reply.status_code in (404, 405) and refusal(reply)["message"]


def test_no_folder_of_the_machine_is_in_what_models_tell(insider: TestClient) -> None:
    text = insider.get("/v1/models").text
    assert "insider" not in text and "starter" in text
