"""A run's page over HTTP: what can be stopped is what runs or waits, and old addresses open the run's tab."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from studio.pages.run.page import CANCEL, STOP
from studio.web.old_addresses import todays_address
from tests.studio.pages import opened, outputs, words
from tests.studio.stored import Stored, experts_result


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
    assert stored.store.attempts.claim("tests", "here", "light") is not None
    running = stop_button(client, run.id)
    assert (running["value"], running["visible"]) == (STOP, True)
    stored.end_all()
    assert stop_button(client, run.id)["visible"] is False


@pytest.mark.parametrize("path", ["/run", "/", "/chat", "/runs", "/inspect/1e3", "/runs/-1", "/runs/" + "9" * 41])
def test_an_address_of_today_and_one_of_nothing_stay_as_they_are(path: str) -> None:
    assert todays_address(path, "") is None


def test_an_item_of_a_short_address_is_not_replaced_by_its_query() -> None:
    assert todays_address("/runs/3", "run=4&layer=L1") == "/run?run=3&layer=L1"


def test_the_address_says_how_curves_are_drawn(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus(), finished=False)
    stored.steps(run, [{"loss": 2.0 / n} for n in range(1, 9)])
    usual = words(opened(client, "run", "draw", f"?run={run.id}&tab=training"))
    assert f'/ui/figures/runs/{run.id}/loss?at=8-0"' in usual and "value='' selected" in usual
    drawn = words(opened(client, "run", "draw", f"?run={run.id}&tab=training&smooth=0.15&log=1"))
    assert f"/ui/figures/runs/{run.id}/loss?at=8-0&log=True&smooth=0.15" in drawn
    assert "value='0.15' selected" in drawn and "data-param='log' checked" in drawn
    wrong = words(opened(client, "run", "draw", f"?run={run.id}&tab=training&smooth=9&log="))
    assert "smooth=" not in wrong.split("/loss?")[1][:40]


def test_a_curve_is_smoothed_by_its_address_within_bounds(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus(), finished=False)
    stored.steps(run, [{"loss": 2.0 / n} for n in range(1, 9)])
    address = f"/ui/figures/runs/{run.id}/loss"
    assert len(client.get(f"{address}?smooth=0.3&log=true").json()["figure"]["data"]) == 2
    assert client.get(f"{address}?smooth=0.6").status_code == 422


def test_a_run_leads_to_compare_with_room_for_others(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    drawn = words(opened(client, "run", "draw", f"?run={run.id}&tab=weights"))
    assert f"href='/compare?runs={run.id}'" in drawn and f"/compare?runs={run.id}&amp;tab=weights" in drawn
    there = words(opened(client, "compare", "draw", f"?runs={run.id}"))
    assert "One run." in there


def test_what_is_behind_the_words_of_a_page_opens_in_place(client: TestClient, stored: Stored) -> None:
    run = stored.run(stored.corpus())
    stored.analysis(run, "experts", experts_result())
    drawn = words(opened(client, "run", "draw", f"?run={run.id}&tab=experts"))
    assert "What is this?" in drawn and "Loss without it (muting)" in drawn
