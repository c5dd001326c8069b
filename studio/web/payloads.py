"""The guard in front of Gradio: which of its addresses exist here, and what may stand in an event.

Gradio's components read file data (``{"path": ...}``) wherever it stands in a payload. Here a path is opened only
where a page has a file field, and only when this visitor uploaded that file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import gradio as gr

from jobs.http import App, Receive, Refused, Scope, Send, read_body, replay
from studio.web.json_bodies import parse_payload, walk
from studio.web.uploads import UPLOAD, Uploads

EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
READ = re.compile(
    r"/gradio_api/(app_id|startup-events|queue/data|upload_progress|heartbeat/\w{1,64}|file=.+)"
    r"|/(config|theme\.css|robots\.txt|manifest\.json|favicon\.ico|(static|assets|svelte)/.+)"
)
WRITE = re.compile(r"/gradio_api/(queue/join|run/predict|cancel|reset|upload)")
FILE_KEYS = frozenset({"path", "url", "_type", "orig_name", "is_stream", "mime_type"})
FIELDS = frozenset({"session_hash", "event_id", "data", "event_data", "fn_index", "trigger_id"})
OWN = "/ui/"


class PayloadGuard:
    """Middleware between the door and Gradio."""

    def __init__(self, app: App, blocks: gr.Blocks, uploads: Uploads) -> None:
        self.app, self.blocks, self.uploads = app, blocks, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(OWN):
            try:
                receive = await self._check(scope, receive)
            except Refused as refusal:
                await refusal.answer(send)
                return
        await self.app(scope, receive, send)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        path, session = scope["path"].rstrip("/") or "/", scope["state"]["visitor"].session
        if scope["method"] in ("GET", "HEAD"):
            self._check_read(path, session)
            return receive
        if scope["method"] != "POST" or not WRITE.fullmatch(path):
            raise Refused(404, "There is no such address.")
        if path == UPLOAD:
            return receive
        payload = parse_payload(await read_body(scope, receive))
        if path in EVENTS:
            self._check_event(payload, session)
        elif any(True for _ in file_data(payload)):
            raise Refused(422, "File data may not stand here.")
        return replay(json.dumps(payload).encode(), receive)  # what was looked at is what is read

    def _check_read(self, path: str, session: str) -> None:
        if path.startswith("/gradio_api/file="):
            if not self.uploads.has_sent(session, path.removeprefix("/gradio_api/file=")):
                raise Refused(404, "There is no such file.")
        elif path.startswith("/gradio_api/") or not self._is_page(path):
            if not READ.fullmatch(path) or ".." in path:
                raise Refused(404, "There is no such address.")

    def _is_page(self, path: str) -> bool:
        pages = {"", *(page[0] for page in self.blocks.pages)}
        return path.removeprefix("/") in pages

    def _check_event(self, payload: dict[str, Any], session: str) -> None:
        """Look at each value of an event by the component it is for."""
        unknown = sorted(name for name, value in payload.items() if name not in FIELDS and value)
        if unknown:
            raise Refused(422, f"An event has no field `{unknown[0][:40]}`.")
        index, data = payload.get("fn_index"), payload.get("data")
        function = self.blocks.fns.get(index) if isinstance(index, int) and not isinstance(index, bool) else None
        if function is None:
            raise Refused(404, "There is no such event.")
        if not isinstance(data, list) or len(data) != len(function.inputs):
            raise Refused(422, f"This event takes {len(function.inputs)} values in `data`.")
        for component, value in zip(function.inputs, data, strict=True):
            if isinstance(component, gr.File):
                self._check_files(value, session)
            elif any(True for _ in file_data(value)):
                raise Refused(422, "File data stands in a field that takes no file.")
        if any(True for _ in file_data(payload.get("event_data"))):
            raise Refused(422, "File data may not stand in an event.")

    def _check_files(self, value: Any, session: str) -> None:
        """Every file of a file field was uploaded by this visitor."""
        files = value if isinstance(value, list) else [] if value is None else [value]
        for file in files:
            if not isinstance(file, dict) or not self.uploads.has_sent(session, file.get("path")):
                raise Refused(422, "This file was not uploaded here, or lies here no longer. Choose it again.")
            inside = [item for name, item in file.items() if name != "meta"]
            plain = all(item is None or isinstance(item, (str, int, float, bool)) for item in inside)
            if not plain or file.get("is_stream") or file.get("meta") != {"_type": "gradio.FileData"}:
                raise Refused(422, "The data of this file is not of a form that an upload has.")
            file_url = file.get("url")
            if file_url is not None and "/gradio_api/file=" not in str(file_url):
                raise Refused(422, "A file is uploaded here, never fetched from an address.")


def file_data(value: Any) -> Iterator[dict[str, Any]]:
    """Everything within a value that a library could take for a file."""
    for _, item in walk(value):
        if isinstance(item, dict) and (FILE_KEYS & item.keys() or "meta" in item):
            yield item
