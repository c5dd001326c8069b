"""The tour in a browser: one click in an empty studio ends in a chat. The tests run in order."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from jobs.home import Home
from jobs.store.store import Store
from jobs.tour import SETTING
from tests.browser.conftest import Studio, wait_until

pytestmark = pytest.mark.browser
MINUTES = 0.35  # of training; the real tour takes three


@pytest.fixture(scope="module")
def store(studio: Studio) -> Store:
    store = Store(Home(studio.home))
    store.settings.set(SETTING, {"minutes": MINUTES})
    return store


@pytest.mark.timeout(900)
def test_one_click_is_explained_step_by_step_and_ends_in_a_chat_with_three_things_to_try(
    page: Page, studio: Studio, store: Store
) -> None:
    page.goto(studio.address)
    page.locator("#try-sample").click()
    page.wait_for_url(studio.address + "/tour")
    expect(page.locator("#tour")).to_contain_text("step 1 of 4")
    page.goto(studio.address + "/corpora")  # left, and taken up again
    page.goto(studio.address + "/tour")
    expect(page.locator("#tour")).to_contain_text("step 3 of 4", timeout=300_000)
    expect(page.get_by_role("heading", name="Why it matters")).to_be_visible()
    expect(page.locator("#tour-loss .main-svg").first).to_be_visible(timeout=300_000)
    assert "waiting" not in page.locator(".contain").first.inner_text().lower()
    page.wait_for_url(re.compile(r"/run\?run=1&tab=chat&try=1"), timeout=600_000)
    tries = page.get_by_role("region", name="Three things to try")
    tries.get_by_role("button", name="1 Ask").click()
    # How many steps fit the time depends on the machine, and after a few an answer may still be empty.
    expect(page.get_by_role("button", name="Answer again")).to_be_visible(timeout=120_000)
    tries.get_by_role("button", name="2 Mute E2").click()
    expect(page.locator(".hy-msg.assistant", has_text="without E2")).to_be_visible(timeout=60_000)
    tries.get_by_role("button", name="3 Compare").click()
    expect(page.locator(".hy-msg.assistant", has_text="Base model")).to_be_visible(timeout=60_000)


def test_the_outcome_is_told_and_leads_on(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/tour")
    expect(page.locator("#tour")).to_contain_text("of 240 unseen questions")
    page.locator("#tour-chat").click()
    page.wait_for_url(re.compile(r"/run\?run=1&tab=chat"))


def test_the_samples_are_removed_with_one_click(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/tour")
    page.locator("#remove-samples").click()
    wait_until(lambda: not store.runs.all() and not store.corpora.all())
    expect(page.locator("#remove-samples")).to_have_count(0)
    page.goto(studio.address)
    expect(page.locator("#try-sample")).to_be_visible()
