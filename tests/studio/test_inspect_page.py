"""Inspect says what can be stopped: what runs, what only waits, or nothing."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from studio.pages.inspect.page import CANCEL, STOP
from tests.studio.pages import events, opened, outputs
from tests.studio.stored import Stored


def stop_button(client: TestClient, run_id: int) -> dict[str, Any]:
    """The button that ends analyses, as it is drawn for a run."""
    opened(client, "inspect", "load")
    event = next(iter(events(client, "inspect", "draw").values()))
    values = [run_id if component.elem_id == "inspect-run" else component.value for component in event.inputs]
    place = outputs(client, "inspect", "draw").index("stop-analyses")
    return dict(opened(client, "inspect", "draw", values=values)[place])


def test_what_only_waits_is_cancelled_what_runs_is_stopped_and_else_there_is_no_button(
    client: TestClient, stored: Stored
) -> None:
    run = stored.run(stored.corpus())
    waiting = stop_button(client, run.id)
    assert (waiting["value"], waiting["visible"]) == (CANCEL, True)
    assert stored.store.queue.claim("tests", "here", "light") is not None
    running = stop_button(client, run.id)
    assert (running["value"], running["visible"]) == (STOP, True)
    stored.end_all()
    assert stop_button(client, run.id)["visible"] is False
