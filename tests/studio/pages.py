"""Opens pages as a browser does, without scripts: the events of opening are sent, and what they give is kept by id."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient
from gradio.blocks import BlockFunction

from tests.security.studio_client import events_of, send_event


def events(client: TestClient, page: str, name: str) -> dict[int, BlockFunction]:
    """The events of a page whose handler is called ``name``."""
    found = events_of(client).items()
    return {number: event for number, event in found if event.page == page and event.name == name}


def opened(client: TestClient, page: str, handler: str, query: str = "", values: list[Any] | None = None) -> list[Any]:
    """What a handler gives to the components of a page at an address such as ``?run=1``.

    Raises:
        AssertionError: When the page has no such handler, or it answers with an error.
    """
    found = events(client, page, handler)
    assert found, f"page {page!r} has no handler {handler!r}"
    number, event = next(iter(found.items()))
    known = [component.value for component in event.inputs] if values is None else values
    reply = send_event(client, number, event, known, query=query)
    assert reply.get("error") is None and "data" in reply, reply
    return list(reply["data"])


def outputs(client: TestClient, page: str, handler: str) -> list[str | None]:
    """The ids in the document of the components that a handler fills, in order."""
    event = next(iter(events(client, page, handler).values()))
    return [component.elem_id for component in event.outputs]


def words(data: list[Any]) -> str:
    """Everything in an answer as one text."""
    return json.dumps(data, ensure_ascii=False)
