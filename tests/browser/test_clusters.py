"""Hands on the clusters in a browser: rename, merge and undo by the keyboard, and what New run makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import Studio
from tests.studio.stored import Stored

pytestmark = pytest.mark.browser
NAME = "Boats <b>& sails</b>"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with a corpus in three clusters of 20."""
    folder = tmp_path_factory.mktemp("clusters")
    Stored(Store(Home(folder))).kinds()
    running = Studio(folder, words=("--no-worker",))
    running.start()
    yield running
    running.end()


def test_clusters_are_renamed_merged_and_taken_back_and_a_new_run_knows(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/corpora?corpus=1")
    clusters = page.locator("#cluster-list")
    expect(clusters.locator("li")).to_have_count(3)
    page.get_by_label("What to do with C1").press("Enter")
    clusters.get_by_role("button", name="Rename").first.press("Enter")
    expect(page.get_by_label("Name of C1")).to_be_focused()
    page.keyboard.type(NAME)
    page.keyboard.press("Enter")
    expect(clusters.locator("b").first).to_have_text(NAME)

    merge = clusters.get_by_role("button", name="Merge")
    expect(merge).to_be_disabled()
    for number in (0, 2):
        clusters.locator("input").nth(number).press("Space")
    expect(clusters.get_by_text("C1 and C3 become one cluster.")).to_be_visible()
    merge.press("Enter")
    expect(clusters.locator("li")).to_have_count(2)
    undo = page.locator("#undo-edit")
    expect(undo).to_contain_text(f"Undo: Merged C1 {NAME} and C3 into C")

    page.get_by_role("link", name="Train on this").click()
    expect(page.get_by_text("You merged C1")).to_be_visible()
    expect(page.locator("#field-num_experts input").first).to_have_value("2")

    page.go_back()
    undo.press("Enter")
    expect(clusters.locator("li")).to_have_count(3)
    expect(page.locator("#redo-edit")).to_be_visible()
