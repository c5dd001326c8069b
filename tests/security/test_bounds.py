"""Bounds before anything is parsed: bodies, uploads, half-sent requests, readers of an answer, the queue."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from jobs.chat.server import Server, build_app
from jobs.home import Home
from jobs.http import MOST_BODY, BoundedBody, PatientProtocol, Refused
from jobs.store.queue import MOST_WAITING
from jobs.store.store import Store
from jobs.visitor import on_behalf_of
from studio.web.answers import MOST_READERS, Answers, Live
from studio.web.server import create_app
from studio.web.uploads import MOST_FILE, Uploads
from tests.security.conftest import Served, upload
from tests.security.test_door import all_routes

JSON = {"Content-Type": "application/json"}
WRITES = (
    "/ui/chat/conversations/1/ask",
    "/ui/chat/conversations/1",
    "/gradio_api/queue/join",
    "/gradio_api/run/predict",
    "/gradio_api/cancel",
    "/gradio_api/reset",
    "/ui/sign-in",
    "/ui/chat/warm",
)


def pieces(total: int, size: int = 64 * 1024) -> Iterator[bytes]:
    for _ in range(total // size):
        yield b"x" * size


@pytest.mark.parametrize("address", WRITES)
def test_a_body_longer_than_the_bound_is_refused_by_its_length(visitor: TestClient, address: str) -> None:
    reply = visitor.post(address, content=b"x" * (MOST_BODY + 1), headers=JSON)
    assert reply.status_code == 413 and "bytes" in reply.json()["detail"]


@pytest.mark.parametrize("address", WRITES)
def test_a_body_of_no_stated_length_is_read_up_to_the_bound_only(visitor: TestClient, address: str) -> None:
    reply = visitor.post(address, content=pieces(2 * MOST_BODY), headers=JSON)
    assert reply.status_code == 413


def test_the_model_server_asks_for_the_token_before_it_reads_a_body(home: Home) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for piece in pieces(256 * 2**20):
            taken += len(piece)
            yield piece

    with Served(
        None, uvicorn.Config(build_app(Server(home), "right"), http=PatientProtocol, log_level="warning")
    ) as served:
        try:
            reply = httpx.post(f"http://127.0.0.1:{served.port}/answer", content=endless(), headers=JSON, timeout=30)
            assert reply.status_code == 401
        except httpx.WriteError:
            pass  # it hung up while we were still sending
    assert taken < 64 * 2**20


def test_the_model_servers_bodies_are_bounded_too(home: Home) -> None:
    client = TestClient(build_app(Server(home), "right"), headers={"Authorization": "Bearer right"})
    assert client.post("/answer", content=pieces(40 * 2**20), headers=JSON).status_code == 413


# Uploads


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, most_total=1_000)


def test_uploads_are_bounded_in_total(uploads: Uploads) -> None:
    (uploads.folder / "a").write_bytes(b"x" * 600)
    uploads.reserve(300)
    with pytest.raises(Refused, match="wait to be imported"):
        uploads.reserve(200)
    uploads.release(300)
    uploads.reserve(200)


def test_one_file_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Send it in parts"):
        Uploads(tmp_path).reserve(MOST_FILE + 1)


def test_what_nobody_imports_is_deleted_by_its_age(uploads: Uploads) -> None:
    old, fresh = uploads.folder / "h" / "old.csv", uploads.folder / "fresh.csv"
    old.parent.mkdir()
    for file in (old, fresh):
        file.write_text("x")
    uploads.note("me", str(old))
    past = time.time() - uploads.kept_seconds - 60
    os.utime(old, (past, past))
    assert uploads.sweep() == 1 and fresh.exists() and not old.exists()


def test_an_upload_that_does_not_say_its_length_is_refused(visitor: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert visitor.post("/gradio_api/upload", content=pieces(2**20), headers=headers).status_code == 411


FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\nq,a\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("", FORM),
        ("multipart/form-data", FORM),
        ("multipart/form-data; boundary=" + "b" * 5_000, FORM),
        ("multipart/form-data; boundary=\xff", FORM),
        ("multipart/form-data; boundary=x; charset=zzz", FORM),
        ("application/json", b"{}"),
        ("multipart/form-data; boundary=x", FORM.replace(b'; filename="a.csv"', b"")),
        ("multipart/form-data; boundary=x", FORM.replace(b'filename="a.csv"', b"filename*=zzz''x")),
        ("multipart/form-data; boundary=x", FORM.replace(b"a.csv", b"..")),
        ("multipart/form-data; boundary=x", FORM.replace(b"a.csv", b"a" * 70_000)),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 5_000),
    ],
)
def test_an_upload_that_is_no_form_is_refused_and_breaks_nothing(visitor: TestClient, kind: str, body: bytes) -> None:
    headers = {"Content-Type": kind.encode("latin-1")}
    reply = visitor.post("/gradio_api/upload", content=body, headers=headers)
    assert reply.status_code in (400, 413) and "Traceback" not in reply.text
    assert visitor.post("/gradio_api/upload", files={"files": ("a.csv", b"q,a")}).status_code == 200


def test_a_full_folder_refuses_the_next_upload_in_a_sentence(visitor: TestClient, studio: FastAPI) -> None:
    room, studio.state.uploads.most_total = studio.state.uploads.most_total, 1_000
    try:
        reply = visitor.post("/gradio_api/upload", files={"files": ("a.csv", b"x" * 5_000)})
    finally:
        studio.state.uploads.most_total = room
    assert reply.status_code == 413 and "wait to be imported" in reply.json()["detail"]


def test_an_upload_leaves_its_room_when_it_has_ended(visitor: TestClient, studio: FastAPI) -> None:
    upload(visitor, "a.csv", b"a,b\n1,2\n")
    assert studio.state.uploads._expected == 0


def test_a_body_that_is_longer_than_it_says_is_cut_off(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    from studio.web.uploads import UPLOAD, UploadMiddleware

    headers = [(b"content-length", b"250"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": UPLOAD, "headers": headers, "state": {}}
    asyncio.run(UploadMiddleware(application, Uploads(tmp_path))(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413


# Half-sent requests


class Hurried(PatientProtocol):
    head_seconds = 0.5


async def quiet(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with nothing."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_half_sent_head_is_not_waited_for(start: bytes) -> None:
    with Served(None, uvicorn.Config(quiet, http=Hurried, log_level="warning", lifespan="off")) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(start)
            assert connection.recv(100) == b""  # a time-out here is the failure


def test_a_half_sent_head_after_a_whole_request_is_not_waited_for_either() -> None:
    with Served(None, uvicorn.Config(quiet, http=Hurried, log_level="warning", lifespan="off")) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"204" in connection.recv(1_000)
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert connection.recv(100) == b""


def test_a_whole_request_is_answered_however_long_it_takes() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3 * Hurried.head_seconds)
        await quiet(scope, receive, send)

    with Served(None, uvicorn.Config(slow, http=Hurried, log_level="warning", lifespan="off")) as served:
        assert httpx.get(f"http://127.0.0.1:{served.port}", timeout=20).status_code == 204


def test_a_half_sent_body_is_not_waited_for() -> None:
    bounded = BoundedBody(quiet, seconds=0.5)
    with Served(None, uvicorn.Config(bounded, log_level="warning", lifespan="off")) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            assert b"408" in connection.recv(1_000)


# Readers of an answer


def answers_of(made: FastAPI) -> Answers:
    """What the chat's addresses of an application share."""
    return next(
        cell.cell_contents
        for route in all_routes(made.routes)
        if route.path == "/ui/chat/answers/{message_id}" and "GET" in route.methods
        for cell in route.endpoint.__closure__
        if isinstance(cell.cell_contents, Answers)
    )


def test_two_hundred_readers_of_a_slow_answer_leave_the_studio_answering(tmp_path: Path) -> None:
    made = create_app(Home(tmp_path / "home"), keep_worker=False)
    answers = answers_of(made)
    live = answers.live[7] = Live()
    live.add({"text": "slow"})

    async def read_all(address: str) -> list[str]:
        headers = {"Authorization": f"Bearer {made.state.door.secret}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=30) as client:
            readers = [asyncio.create_task(_read(client)) for _ in range(200)]
            while live.readers < 200:
                await asyncio.sleep(0.05)
            assert (await client.get("/ui/health", timeout=5)).json()["ok"]
            live.add({"end": "done"}, ended=True)
            return await asyncio.gather(*readers)

    with Served(made) as served:
        texts = asyncio.run(read_all(f"http://127.0.0.1:{served.port}"))
    assert texts == ['{"text": "slow"}\n{"end": "done"}\n'] * 200


async def _read(client: httpx.AsyncClient) -> str:
    async with client.stream("GET", "/ui/chat/answers/7") as reply:
        return "".join([part async for part in reply.aiter_text()])


def test_readers_of_one_answer_are_bounded(store: Store) -> None:
    answers = Answers(store)
    live = answers.live[1] = Live()
    live._bells = {(None, number) for number in range(MOST_READERS)}  # type: ignore[misc]
    with pytest.raises(UserError, match="follow this answer already"):
        answers.follow(1)


def test_a_reader_that_leaves_is_forgotten() -> None:
    async def leave() -> int:
        live = Live()
        live.add({"text": "one"})
        reading = live.read()
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
        return live.readers

    assert asyncio.run(leave()) == 0


# The queue


def test_sixty_jobs_of_one_visitor_do_not_keep_another_waiting(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "home"))
    queue, attempts = store.queue, store.attempts
    with on_behalf_of("ann"):
        for _ in range(60):
            queue.submit("cluster")
    with on_behalf_of("bob"):
        mine = [queue.submit("cluster").id for _ in range(2)]
    order = [job.id for _ in range(5) if (job := attempts.claim("w", "here", "light"))]
    assert order == [1, mine[0], 2, mine[1], 3]


def test_one_visitors_jobs_go_in_the_order_they_were_asked_for(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "home"))
    queue, attempts = store.queue, store.attempts
    with on_behalf_of("ann"):
        asked = [queue.submit("cluster").id for _ in range(5)]
    assert [job.id for _ in asked if (job := attempts.claim("w", "here", "light"))] == asked


def test_the_jobs_that_one_visitor_may_have_waiting_are_bounded(tmp_path: Path) -> None:
    queue = Store(Home(tmp_path / "home")).queue
    with on_behalf_of("ann"):
        for _ in range(MOST_WAITING):
            queue.submit("cluster")
        with pytest.raises(UserError, match=f"{MOST_WAITING} of your jobs wait already"):
            queue.submit("cluster")
    queue.submit("cluster")  # the command line is not bounded


def test_a_store_for_a_user_queues_on_that_users_behalf(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "home"))
    ann, bob = store.for_user("ann"), store.for_user("bob")
    for _ in range(3):
        ann.queue.submit("cluster")
    with on_behalf_of("ann"):  # who is named goes before whoever the code happens to work for
        mine = bob.queue.submit("cluster").id
    order = [job.id for _ in range(3) if (job := store.attempts.claim("w", "here", "light"))]
    assert order == [1, mine, 2]
    assert [job.id for job in bob.queue.jobs()] == [4, 3, 2, 1]  # there are no accounts: everybody sees everything


def test_answers_being_written_are_bounded(store: Store) -> None:
    answers = Answers(store)
    answers.live = {number: Live() for number in range(32)}
    with pytest.raises(UserError, match="answers are being written"):
        answers.ask(store.chats.create().id, "hello", [{}])
