"""A browser without scripts over a home folder; whatever stands in front of the studio is passed here, in one place."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient
from gradio.blocks import BlockFunction

from jobs.home import Home
from studio.web.server import create_app

ADDRESS = "http://127.0.0.1"


def make_client(home: Home) -> TestClient:
    """A client of the whole web application, without a worker; its errors arrive as status 500."""
    app = create_app(home, keep_worker=False)
    headers = {"Authorization": f"Bearer {app.state.door.secret}"}
    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, headers=headers)


def events_of(client: TestClient) -> dict[int, BlockFunction]:
    """The events of all pages by their numbers, those without a handler left out."""
    pages = next(
        route.app for route in reversed(client.app.routes) if hasattr(getattr(route, "app", None), "get_blocks")
    )  # type: ignore[attr-defined]
    return {number: event for number, event in pages.get_blocks().fns.items() if event.fn is not None}


def send_event(
    client: TestClient,
    number: int,
    event: BlockFunction,
    values: list[Any],
    *,
    session: str = "fuzz",
    query: str = "",
    data: Any = None,
) -> dict[str, Any]:
    """What an event answers: ``{"error": ...}`` or its output. ``values`` are sent as they are, NaN and all."""
    body = {"data": values, "fn_index": number, "session_hash": session, "event_data": data, "trigger_id": None}
    headers = {"Content-Type": "application/json"}
    if not event.queue:
        reply = client.post(f"/gradio_api/run/predict{query}", content=json.dumps(body), headers=headers)
        return {"status": reply.status_code, **_answer(reply.text)}
    joined = client.post(f"/gradio_api/queue/join{query}", content=json.dumps(body), headers=headers)
    if joined.status_code != 200:
        return {"status": joined.status_code, **_answer(joined.text)}
    stream = client.get(f"/gradio_api/queue/data?session_hash={session}").text
    lines = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    done = next(
        (line for line in lines if line["msg"] == "process_completed"), {"output": {"error": f"no end: {lines}"}}
    )
    return {"status": 200, **(done["output"] or {})}


def _answer(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {"error": found}
