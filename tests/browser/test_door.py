"""The sign-in page in a real browser: forms, cookies and redirects as browsers do them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser


@pytest.fixture
def outside(chromium: Browser) -> Iterator[Page]:
    """A browser that has never been here."""
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def test_the_token_typed_into_the_form_opens_the_page_that_was_asked_for(outside: Page, studio: Studio) -> None:
    outside.goto(studio.address + "/runs/999")
    outside.get_by_label("Token").fill("wrong")
    outside.get_by_role("button", name="Sign in").click()
    expect(outside.get_by_role("alert")).to_have_text("This token is wrong.")
    outside.get_by_label("Token").fill(studio.token)
    outside.get_by_role("button", name="Sign in").click()
    expect(outside.get_by_text("Run 999 does not exist")).to_be_visible()
    assert outside.url == studio.address + "/run?run=999"


def test_the_printed_link_opens_the_studio_and_shows_no_token(outside: Page, studio: Studio) -> None:
    outside.goto(f"{studio.address}/new-run?token={studio.token}")
    expect(outside.get_by_role("heading", name="New run")).to_be_visible()
    assert outside.url == studio.address + "/new-run"


def test_who_signs_out_before_any_script_has_loaded_is_asked_for_the_token_again(outside: Page, studio: Studio) -> None:
    outside.route(re.compile(r"/static/studio\.js"), lambda route: route.abort())
    outside.goto(f"{studio.address}/?token={studio.token}")
    outside.get_by_role("button", name="Sign out").click()
    expect(outside.get_by_label("Token")).to_be_visible()
    outside.goto(studio.address + "/corpora")
    expect(outside.get_by_label("Token")).to_be_visible()
