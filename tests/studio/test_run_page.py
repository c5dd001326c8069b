"""A run's page over HTTP: what can be stopped is what runs or waits, and old addresses open the run's tab."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from studio.pages.run.page import CANCEL, STOP
from studio.web.old_addresses import todays_address
from tests.studio.pages import opened, outputs
from tests.studio.stored import Stored


def stop_button(client: TestClient, run_id: int) -> dict[str, Any]:
    """The button that ends analyses, as it is drawn for the weights of a run."""
    place = outputs(client, "run", "draw").index("stop-analyses")
    return dict(opened(client, "run", "draw", f"?run={run_id}&tab=weights")[place])


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


@pytest.mark.parametrize("path", ["/run", "/", "/chat", "/runs", "/inspect/1e3", "/runs/-1", "/runs/" + "9" * 41])
def test_an_address_of_today_and_one_of_nothing_stay_as_they_are(path: str) -> None:
    assert todays_address(path, "") is None


def test_an_item_of_a_short_address_is_not_replaced_by_its_query() -> None:
    assert todays_address("/runs/3", "run=4&layer=L1") == "/run?run=3&layer=L1"
