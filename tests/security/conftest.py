"""A studio without a worker, and ways to ask it as its owner and as a stranger."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.home import Home
from jobs.store.store import Store
from studio.cli import serve as command_line
from studio.web.server import create_app

ADDRESS = "http://127.0.0.1"


@pytest.fixture(autouse=True)
def same_upload_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio's folder of uploads is one for the process; a test that makes another application gives it back."""
    if folder := os.environ.get("GRADIO_TEMP_DIR"):
        monkeypatch.setenv("GRADIO_TEMP_DIR", folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("studio") / "home")


@pytest.fixture(scope="module")
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture(scope="module")
def studio(home: Home) -> Iterator[FastAPI]:
    """The application, started."""
    made = create_app(home, keep_worker=False)
    with TestClient(made, base_url=ADDRESS):
        yield made


def visit(studio: FastAPI, **options: Any) -> TestClient:
    """A browser of its own that followed the link with the token."""
    client = TestClient(studio, base_url=ADDRESS, raise_server_exceptions=False, **options)
    assert client.get(f"/ui/health?token={studio.state.door.secret}").status_code == 200
    return client


@pytest.fixture
def visitor(studio: FastAPI) -> TestClient:
    return visit(studio)


@pytest.fixture
def stranger(studio: FastAPI) -> TestClient:
    """A client without token or cookie."""
    return TestClient(studio, base_url=ADDRESS, raise_server_exceptions=False)


def blocks_of(studio: FastAPI) -> gr.Blocks:
    """Gradio's pages inside an application."""
    mounted = next(route for route in studio.routes if getattr(route, "path", None) == "" and hasattr(route, "app"))
    return mounted.app.get_blocks()  # type: ignore[attr-defined,no-any-return]


def event(client: TestClient, index: int, data: list[Any], *, page: str = "", **more: Any) -> Any:
    """Fire an event of a page as the browser does; gives the refusal, or what the event ended with."""
    session = secrets.token_hex(6)
    body = {"data": data, "fn_index": index, "session_hash": session, "event_data": None, "trigger_id": None, **more}
    joined = client.post(f"/gradio_api/queue/join{page}", json=body)
    if joined.status_code != 200:
        return joined
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as reply:
        for line in reply.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the event never ended")


class Served:
    """An application behind a real socket, in a thread."""

    def __init__(self, application: Any, config: uvicorn.Config | None = None) -> None:
        self.server = uvicorn.Server(config or command_line.server_config(application, []))
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.server.config.port, self.server.config.host = 0, "127.0.0.1"
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> Served:
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)


def upload(client: TestClient, name: str, content: bytes) -> str:
    """Upload a file as the page does; gives the path that Gradio gave it."""
    reply = client.post("/gradio_api/upload", files={"files": (name, content)})
    assert reply.status_code == 200, reply.text
    return str(reply.json()[0])


def file_value(path: object) -> dict[str, Any]:
    """What the page sends for a file in a file field."""
    return {
        "path": path,
        "orig_name": "x.csv",
        "size": 3,
        "mime_type": "text/csv",
        "meta": {"_type": "gradio.FileData"},
    }


def secret_file(folder: Path) -> Path:
    """A file that nobody may read through the studio."""
    path = folder / "secret.txt"
    path.write_text("the-owner's-secret")
    return path
