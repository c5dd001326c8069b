"""The log of a run on its page: its last piece, earlier ones, the lines with some words, and each attempt's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from jobs.home import Home
from jobs.store.logs import LOG
from jobs.store.store import Store
from tests.browser.conftest import Studio
from tests.studio.stored import Stored

pytestmark = pytest.mark.browser
LINES = 4_000  # of some 40 bytes: three pieces


@pytest.fixture
def shown(chromium: Browser, tmp_path: Path) -> Iterator[tuple[Page, Path]]:
    """The Training tab of a run, and the file its log is in."""
    home = Home(tmp_path)
    stored = Stored(Store(home))
    run = stored.run(stored.corpus("Doors"))
    assert run.job is not None
    log = home.job(run.job.id, run.job.attempt) / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"step {number:04} of the training <b>loss</b>\n" for number in range(LINES)))
    running = Studio(tmp_path, words=("--no-worker",))
    running.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    running.let_in(context)
    page = context.new_page()
    page.goto(f"{running.address}/run?run={run.id}&tab=training")
    page.locator(".label-wrap", has_text=re.compile("^\\s*Log")).click()
    yield page, log
    context.close()
    running.end()


def test_a_log_is_read_from_its_end_to_its_beginning_and_searched(shown: tuple[Page, Path]) -> None:
    page, _ = shown
    text, words = page.get_by_role("region", name="Log"), page.get_by_label("Lines with the words")
    expect(text).to_contain_text(f"step {LINES - 1} of the training <b>loss</b>")
    expect(text).not_to_contain_text("step 0000")
    assert text.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight < 2")
    for _ in range(2):
        page.get_by_role("button", name="Show earlier").click()
        page.wait_for_timeout(500)
    expect(text).to_contain_text("step 0000 of the training")
    assert (text.text_content() or "").splitlines() == [
        f"step {number:04} of the training <b>loss</b>" for number in range(LINES)
    ]
    expect(page.get_by_role("button", name="Show earlier")).to_be_hidden()
    words.fill("STEP 0017")
    expect(text).to_have_text("18  step 0017 of the training <b>loss</b>")
    expect(page.get_by_text("1 line", exact=True)).to_be_visible()
    words.fill("nowhere")
    expect(text).to_have_text("No line has these words.")
    words.fill("")
    expect(text).to_contain_text(f"step {LINES - 1}")
    expect(page.get_by_label("Attempt")).to_be_hidden()
