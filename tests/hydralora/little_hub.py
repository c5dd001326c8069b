"""A hub of its own on this machine, with the addresses that a data set is fetched from."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def little_hub(files: dict[str, bytes], *, gated: bool = False, sizes: dict[str, int] | None = None) -> Iterator[str]:
    """Serve ``somebody/faq`` with these files; gives its address.

    Args:
        gated: Whether its files are given only to those who agreed to terms.
        sizes: What is said of files' sizes, where that is not the truth.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            beginning = f"/datasets/somebody/faq/resolve/{REVISION}/"
            if path in ("/api/datasets/somebody/faq", "/api/datasets/somebody/faq/revision/main"):
                self._send(200, json.dumps(_facts(files, sizes or {})).encode(), with_body)
            elif path.startswith(beginning) and gated:
                self._send(403, b"", with_body, {"X-Error-Code": "GatedRepo"})
            elif path.startswith(beginning) and path[len(beginning) :] in files:
                data = files[path[len(beginning) :]]
                etag = f'"{hashlib.sha256(data).hexdigest()}"'
                self._send(200, data, with_body, {"ETag": etag, "X-Repo-Commit": REVISION})
            else:
                self._send(404, b"", with_body, {"X-Error-Code": "RepoNotFound"})

        def _send(self, status: int, data: bytes, with_body: bool, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def log_message(self, format: str, *values: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _facts(files: dict[str, bytes], sizes: dict[str, int]) -> dict[str, object]:
    siblings = [{"rfilename": name, "size": sizes.get(name, len(data))} for name, data in files.items()]
    return {"id": "somebody/faq", "sha": REVISION, "siblings": siblings, "tags": [], "private": False}
