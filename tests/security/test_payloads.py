"""No path of an event is opened that this visitor did not upload; no address of Gradio's but what pages need."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from jobs.home import Home
from jobs.http import Refused
from jobs.store.store import Store
from studio.web.door import Visitor
from studio.web.json_bodies import MOST_DEPTH, parse_payload
from studio.web.payloads import PayloadGuard, file_data
from studio.web.server import create_app
from tests.security.conftest import Served, blocks_of, event, file_value, secret_file, upload, visit
from tests.studio.stored import Stored

CSV = b"question,answer\nwhat is one?,it is 1\nwhat is two?,it is 2\n"
SHAPES: dict[str, Any] = {
    "plain": lambda path: file_value(path),
    "without meta": lambda path: {"path": path},
    "listed": lambda path: [file_value(path)],
    "nested": lambda path: {"a": [{"b": file_value(path)}]},
    "address": lambda path: {"url": f"file://{path}", "meta": {"_type": "gradio.FileData"}},
    "fetched": lambda path: {**file_value("x"), "url": "http://127.0.0.1:1/x"},
    "stream": lambda path: {**file_value(path), "is_stream": True},
}


def event_of(studio: FastAPI, name: str) -> Any:
    """The first event whose handler has this name."""
    return next(fn for fn in blocks_of(studio).fns.values() if fn.name == name)


def values_of(function: Any, place: int, value: Any) -> list[Any]:
    return [value if index == place else None for index in range(len(function.inputs))]


def copies(home: Home, content: str) -> list[Path]:
    """Files anywhere in the home that hold this text."""
    return [path for path in home.root.rglob("*") if path.is_file() and content.encode() in path.read_bytes()]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return secret_file(tmp_path)


def test_file_data_is_refused_in_every_field_of_every_event(
    studio: FastAPI, visitor: TestClient, home: Home, secret: Path
) -> None:
    tried, answered = 0, []
    for index, function in blocks_of(studio).fns.items():
        for place in range(max(1, len(function.inputs))):
            for name, shape in SHAPES.items():
                for address in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
                    tried += 1
                    data = values_of(function, place, shape(str(secret)))
                    body = {"fn_index": index, "data": data, "session_hash": "s"}
                    if not function.inputs:
                        body |= {"data": [], "event_data": shape(str(secret))}
                    reply = visitor.post(address, json=body)
                    if reply.status_code not in (404, 422) or str(secret.parent) in reply.text:
                        answered.append((index, function.name, place, name, reply.status_code))
    assert tried > 2_000 and answered == []
    assert copies(home, "the-owner's-secret") == []


def test_the_attack_of_two_requests_reads_nothing(
    studio: FastAPI, visitor: TestClient, home: Home, secret: Path
) -> None:
    use_sample = event_of(studio, "use_sample")
    ended = event(visitor, use_sample._id, [file_value(str(secret))])
    assert ended.status_code == 422
    for path in (secret, Path("/proc/self/environ"), home.root / "studio.db"):
        reply = visitor.get(f"/gradio_api/file={path}")
        assert reply.status_code == 404 and reply.json() == {"detail": "There is no such file."}
    assert copies(home, "the-owner's-secret") == []


def test_gradio_itself_looks_at_paths_too(studio: FastAPI) -> None:
    assert blocks_of(studio).has_launched


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may become another user")
def test_another_account_of_this_machine_reads_nothing(tmp_path: Path, secret: Path) -> None:
    made = create_app(Home(tmp_path / "home"), keep_worker=False)
    attack = """
import json, sys, urllib.request, urllib.error
address, path = sys.argv[1:]
body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}], "fn_index": 19, "session_hash": "s"}
event = ("/gradio_api/queue/join", json.dumps(body).encode())
for target, data in [event, (f"/gradio_api/file={path}", None), ("/", None), ("/ui/health", None)]:
    try:
        request = urllib.request.Request(address + target, data, {"Content-Type": "application/json"})
        print(urllib.request.urlopen(request).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
"""
    with Served(made) as served:
        command = ["python3", "-I", "-c", attack, f"http://127.0.0.1:{served.port}", str(secret)]
        done = subprocess.run(
            command, user=65534, capture_output=True, text=True, timeout=60, cwd="/", env={"PATH": "/usr/bin:/bin"}
        )
    if done.returncode != 0 and "No such file" in done.stderr:
        pytest.skip("this machine has no interpreter that another account may run")
    assert [line[:3] for line in done.stdout.splitlines()] == ["401"] * 4, done.stdout + done.stderr
    assert "secret" not in done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this machine has no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/stdin", "/proc/self/fd/0"])
def test_a_pipe_or_device_stops_nothing(studio: FastAPI, visitor: TestClient, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe" if kind == "pipe" else Path(kind)
    if kind == "pipe":
        os.mkfifo(path)
    for name in ("use_sample", "add_files"):
        function = event_of(studio, name)
        assert event(visitor, function._id, values_of(function, 0, [file_value(str(path))])).status_code == 422
    assert visitor.get(f"/gradio_api/file={path}").status_code == 404
    assert visitor.get("/ui/health").json()["ok"]


# What a visitor uploaded may be used, by that visitor


def test_an_uploaded_file_becomes_a_corpus(studio: FastAPI, visitor: TestClient, store: Store) -> None:
    path = upload(visitor, "mine.csv", CSV)
    before = len(store.corpora.all())
    ended = event(visitor, event_of(studio, "add_files")._id, [[file_value(path)], "mine", ""])
    assert ended["success"] and len(store.corpora.all()) == before + 1


def test_another_visitors_upload_is_not_there(studio: FastAPI, visitor: TestClient) -> None:
    path = upload(visitor, "private.csv", CSV + b"mine,alone\n")
    other = visit(studio)
    assert other.get(f"/gradio_api/file={path}").status_code == 404
    refused = event(other, event_of(studio, "add_files")._id, [[file_value(path)], "stolen", ""])
    assert refused.status_code == 422 and "not uploaded here" in refused.json()["detail"]


def test_a_visitor_sees_the_own_upload(visitor: TestClient) -> None:
    path = upload(visitor, "seen.csv", CSV + b"seen,again\n")
    assert visitor.get(f"/gradio_api/file={path}").content == CSV + b"seen,again\n"


def test_a_path_is_looked_up_as_it_is_opened(studio: FastAPI, visitor: TestClient) -> None:
    path = upload(visitor, "seen.csv", CSV + b"decoded,twice\n")
    guard = PayloadGuard(None, blocks_of(studio), studio.state.uploads)  # type: ignore[arg-type]
    session = next(iter(visitor.cookies.values())).split(".")[0]
    guard._check_read(f"/gradio_api/file={path}", session)
    with pytest.raises(Refused, match="no such file"):
        guard._check_read(f"/gradio_api/file={path.replace('seen', '%73een')}", session)


def test_an_upload_that_was_changed_into_a_link_is_not_followed(visitor: TestClient, secret: Path) -> None:
    path = Path(upload(visitor, "link.csv", CSV + b"link,link\n"))
    path.unlink()
    path.symlink_to(secret)
    assert visitor.get(f"/gradio_api/file={path}").status_code == 404


@pytest.mark.parametrize(
    "name", ["../../../etc/cron.d/x.csv", "/etc/x.csv", "..\\..\\x.csv", "a\x00b.csv", ".csv", "x" * 300 + ".csv"]
)
def test_the_name_of_an_upload_is_no_path(visitor: TestClient, home: Home, name: str) -> None:
    reply = visitor.post("/gradio_api/upload", files={"files": (name, CSV)})
    for path in reply.json() if reply.status_code == 200 else []:
        assert Path(path).resolve().is_relative_to((home.root / "browser-uploads").resolve())
    assert reply.status_code < 500


# Addresses


ELSEWHERE = [
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file=http://127.0.0.1:1/"),
    ("GET", "/gradio_api/file/etc/passwd"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
    ("GET", "/gradio_api/deep_link"),
    ("GET", "/gradio_api/vibe-code"),
    ("GET", "/gradio_api/runs"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/login"),
    ("POST", "/gradio_api/stream/x"),
    ("POST", "/gradio_api/run/add_files"),
    ("POST", "/gradio_api/api/predict"),
    ("POST", "/gradio_api/call/draw"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/monitoring"),
    ("GET", "/static/../../etc/passwd"),
    ("GET", "/gradio_api/custom_component/1/client/component/index.js"),
    ("PUT", "/gradio_api/upload"),
    ("DELETE", "/gradio_api/upload"),
    ("GET", "/assets/..%2f..%2fapp.py"),
    ("GET", "/svelte/../x"),
    ("POST", "/corpora"),
    ("GET", "/pwa_icon"),
    ("GET", "/gradio_api/token"),
]


@pytest.mark.parametrize(("method", "address"), ELSEWHERE)
def test_what_no_page_needs_is_not_there(visitor: TestClient, method: str, address: str) -> None:
    reply = visitor.request(method, address, **({"json": {}} if method == "POST" else {}))
    assert reply.status_code in (404, 405) and "root:" not in reply.text


# Payloads


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"fn_index": 1e400}',
        b'{"fn_index": NaN}',
        b'{"fn_index": true, "data": []}',
        b'{"fn_index": "0", "data": []}',
        b'{"fn_index": 0, "data": {}}',
        b'{"fn_index": 0, "data": [1, 2, 3]}',
        b'{"fn_index": -1, "data": []}',
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b'{"fn_index": 99999999999999999999, "data": []}',
        b'{"fn_index": 2, "data": [], "batched": true}',
        b'{"fn_index": 2, "data": [], "oauth_token": "x"}',
        b"\xff\xfe",
        b'{"fn_index": 0, "data": ["' + b"x" * 100 + b'"], "simple_format": true}',
    ],
)
def test_a_payload_that_is_none_gets_one_sentence(visitor: TestClient, body: bytes) -> None:
    reply = visitor.post("/gradio_api/queue/join", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (404, 422) and reply.json()["detail"].endswith(".")


def test_depth_and_number_of_values_are_bounded() -> None:
    deep = b'{"data": ' + b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1) + b"}"
    for body in (deep, b'{"data": [' + b"0," * 30_000 + b"0]}"):
        with pytest.raises(Exception, match="holds too much"):
            parse_payload(body)


@pytest.mark.parametrize("name", ["path", "url", "_type", "orig_name", "is_stream", "mime_type", "meta"])
def test_each_key_of_file_data_is_seen_at_any_depth(name: str) -> None:
    value: Any = {name: "x"}
    for _ in range(8):
        value = [{"a": value}] if isinstance(value, dict) else {"b": value}
        assert list(file_data(value))


def test_only_file_fields_take_files(studio: FastAPI) -> None:
    inputs = [component for function in blocks_of(studio).fns.values() for component in function.inputs]
    assert {type(component) for component in inputs if "File" in str(getattr(component, "data_model", ""))} <= {gr.File}


# Whose job it is


def test_a_job_knows_the_visitor_whose_event_asked_for_it(studio: FastAPI, visitor: TestClient, store: Store) -> None:
    stored = Stored(store)
    stored.end_all()
    corpus = stored.corpus()
    function = event_of(studio, "start_clustering")
    ended = event(visitor, function._id, [True, 4, 0], page=f"?corpus={corpus.id}")
    assert ended["success"], ended
    with store.engine.connect() as connection:
        visitors = connection.execute(text("SELECT visitor FROM jobs WHERE kind = 'cluster'")).scalars().all()
    cookie = next(value for name, value in visitor.cookies.items() if name == studio.state.door.cookie)
    assert visitors == [cookie.split(".")[0]]


@pytest.mark.parametrize("address", ["/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/queue/join"])
def test_what_gradio_refuses_is_one_sentence_too(visitor: TestClient, address: str) -> None:
    for body in ({}, {"event_id": [1], "session_hash": {}, "fn_index": 2, "data": []}):
        reply = visitor.post(address, json=body)
        assert reply.status_code < 500
        assert reply.status_code < 400 or isinstance(reply.json()["detail"], str)


def test_gradio_reads_what_the_guard_looked_at_and_no_second_meaning_of_it(studio: FastAPI, secret: Path) -> None:
    guard = PayloadGuard(None, blocks_of(studio), studio.state.uploads)  # type: ignore[arg-type]
    hidden = json.dumps({"path": str(secret), "meta": {"_type": "gradio.FileData"}})
    number = next(number for number, event in blocks_of(studio).fns.items() if event.fn and not event.inputs)
    body = f'{{"fn_index": {number}, "data": [{hidden}], "data": []}}'.encode(
        "utf-16"
    )  # another reader may take the first

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> bytes:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/gradio_api/queue/join",
            "headers": [],
            "state": {"visitor": Visitor("me")},
        }
        return bytes((await (await guard._check(scope, receive))())["body"])

    assert json.loads(asyncio.run(read()).decode("ascii")) == {"fn_index": number, "data": []}
