"""A studio that programs ask: the endpoint behind a real socket, a real model server beside it, a run that answers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from hydralora import add_adapter
from hydralora.bases.load import load_base
from hydralora.files import write_json
from jobs.chat.server import Server, build_app
from jobs.home import Home
from jobs.store.records import Run
from studio.web.listening import server_config
from tests.hydralora.conftest import randomise
from tests.studio.conftest import wait_for
from tests.studio.stored import Stored


@contextmanager
def listening(config: uvicorn.Config) -> Iterator[int]:
    """A server in a thread; gives its port."""
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@contextmanager
def model_server(home: Home) -> Iterator[Server]:
    """The model server of a home, in this process in place of its job."""
    server = Server(home)
    with listening(uvicorn.Config(build_app(server, "t"), log_level="warning")) as port:
        home.server.mkdir(exist_ok=True)
        write_json(home.server / "server.json", {"port": port, "token": "t", "pid": os.getpid()})
        yield server
        (home.server / "server.json").unlink()


@contextmanager
def endpoint(app: Any) -> Iterator[str]:
    """An application behind a socket; gives the address that clients are told."""
    with listening(server_config(app, [])) as port:
        yield f"http://127.0.0.1:{port}/v1"


def answering_run(stored: Stored, method: str = "hydralora", seed: int = 1) -> Run:
    """A finished run on the starter with a random adapter."""
    run = stored.run(stored.corpus(), base="starter", method=method, adapter={"r": 4})
    base, _ = load_base("starter")
    randomise(add_adapter(base, method, {"r": 4}), seed).save_pretrained(stored.home.run(run.id) / "adapter")
    return run
