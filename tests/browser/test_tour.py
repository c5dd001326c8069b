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


def test_the_offer_can_be_declined(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address)
    expect(page.get_by_text("See it work in about four minutes.")).to_be_visible()
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_text("See it work in about four minutes.")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("button", name="Take the tour")).to_be_visible()
    expect(page.get_by_text("See it work in about four minutes.")).to_have_count(0)


@pytest.mark.timeout(900)
def test_one_click_ends_in_a_chat_with_example_questions(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address)
    page.get_by_role("button", name="Take the tour").click()
    expect(page.locator("#tour")).to_contain_text("Find its clusters")
    page.goto(studio.address + "/corpora")  # left, and taken up again
    page.goto(studio.address)
    page.wait_for_url(re.compile(r"/chat\?run=1"), timeout=600_000)
    page.locator(".hy-examples button").first.click()
    # How many steps fit the time depends on the machine, and after a few an answer may still be empty.
    expect(page.get_by_role("button", name="Answer again")).to_be_visible(timeout=120_000)


def test_the_outcome_is_told_and_leads_on(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address)
    expect(page.locator("#tour")).to_contain_text("The tour is done.")
    expect(page.locator("#tour")).to_contain_text("Exact match on 240 held-out questions")
    page.locator("#tour-chat").click()
    page.wait_for_url(re.compile(r"/chat\?run=1"))


def test_the_samples_are_removed_with_one_click(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address)
    page.locator("#remove-samples").click()
    wait_until(lambda: not store.runs.all() and not store.corpora.all())
    expect(page.get_by_text("No runs yet")).to_be_visible()
    expect(page.locator("#remove-samples")).to_have_count(0)
