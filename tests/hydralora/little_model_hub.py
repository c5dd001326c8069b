"""A hub of its own on this machine that takes models: what a push sends, file by file."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants

TOKEN = "hf_of_these_tests"


@dataclass
class ModelHub:
    """What was pushed."""

    address: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)  # name -> private
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by SHA-256


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """Takes ``somebody/*`` from whoever has the token."""
    hub = ModelHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            if path == "/api/validate-yaml":
                self._send({"errors": [], "warnings": []})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send({"error": "Invalid credentials"}, 401)
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
                private = asked.get("private", asked.get("visibility") == "private")
                hub.repositories[name] = bool(private)
                self._send({"url": f"{hub.address}/{name}", "name": name, "id": "1"})
            elif path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                modes = ("lfs" if name["path"].endswith((".safetensors", ".gguf")) else "regular" for name in files)
                told = [
                    {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
                    for f, mode in zip(files, modes, strict=True)
                ]
                self._send({"files": told})
            elif path.endswith("/info/lfs/objects/batch"):
                self._send(self._places(json.loads(body)))
            elif path.endswith("/commit/main"):
                self._commit(body)
            else:
                self._send({"error": path}, 404)

        def do_PUT(self) -> None:
            hub.large[self.path.rsplit("/", 1)[1]] = self.rfile.read(int(self.headers["Content-Length"]))
            self._send({})

        def do_GET(self) -> None:
            self._send({"id": "somebody/model", "sha": "0" * 40, "siblings": []})

        def _places(self, asked: dict[str, Any]) -> dict[str, Any]:
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.address}/put/{one['oid']}", "header": {}}}}
                for one in asked["objects"]
            ]
            return {"transfer": "basic", "objects": objects}

        def _commit(self, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.large[value["oid"]]
            self._send(
                {
                    "commitUrl": f"{hub.address}/somebody/model/commit/{'1' * 40}",
                    "commitOid": "1" * 40,
                    "hookOutput": "",
                }
            )

        def _send(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    usual, constants.ENDPOINT = constants.ENDPOINT, hub.address  # as HF_ENDPOINT does for a process
    try:
        yield hub
    finally:
        constants.ENDPOINT = usual
        server.shutdown()
        server.server_close()
