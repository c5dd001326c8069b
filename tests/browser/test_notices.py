"""What is told of a job that has ended: in the page, and by the browser while the page is not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect

from jobs.home import Home
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.browser.conftest import Studio
from tests.studio.stored import Stored

pytestmark = pytest.mark.browser
# A browser that lets itself be asked, and notes what it would show; the page is hidden while `unseen` says so.
BROWSER = """
window.shown = []; window.unseen = false;
window.Notification = class {
  static permission = 'default';
  static async requestPermission() { return (window.Notification.permission = 'granted'); }
  constructor(title, more) { window.shown.push([title, more.body]); }
};
Object.defineProperty(document, 'hidden', { get: () => window.unseen });
"""
TURN = "unseen => { window.unseen = unseen; document.dispatchEvent(new Event('visibilitychange')); }"

# What of a grid of points of the open tray does not belong to it.
COVERED = """() => {
  const { left, top, width, height } = document.querySelector('#tray .panel').getBoundingClientRect();
  const found = [];
  for (let x = 3; x < width; x += 9) for (let y = 3; y < height; y += 9) {
    const node = document.elementFromPoint(left + x, top + y);
    if (node && !node.closest('#tray')) found.push(node.outerHTML.slice(0, 90));
  }
  return found;
}"""


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Store(Home(tmp_path)))


@pytest.fixture
def visitor(chromium: Browser, stored: Stored) -> Iterator[BrowserContext]:
    """Somebody at a studio whose jobs end when the test says so."""
    running = Studio(stored.home.root, words=("--no-worker",))
    running.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=running.address)
    context.set_default_timeout(60_000)
    context.add_init_script(BROWSER)
    running.let_in(context)
    yield context
    context.close()
    running.end()


def opened(visitor: BrowserContext, path: str) -> Page:
    page = visitor.new_page()
    page.goto(path)
    expect(page.locator("#tray > button")).to_contain_text("No jobs")
    return page


def test_the_end_of_a_job_is_told_once_in_the_page_and_by_the_browser_where_it_is_not_seen(
    visitor: BrowserContext, stored: Stored
) -> None:
    run = stored.run(stored.corpus("Doors"), "Long ago")
    page = opened(visitor, "/runs")
    notices = page.locator(".hy-notice")
    page.locator("#tray > button").click()
    page.get_by_label("Notify me when a job ends").check()
    expect(page.get_by_label("Notify me when a job ends")).to_be_checked()
    page.keyboard.press("Escape")
    expect(notices).to_have_count(0)  # what ended before this browser came is no news

    failed = stored.run(stored.store.corpora.get(run.corpus_id or 0), "Broken <b>", finished=False)
    stored.end(failed.job, status=JobStatus.FAILED, error="Out of memory. Make the batch smaller.")
    told = f'Training of run {failed.id} "Broken <b>" has failed. Out of memory. Make the batch smaller.'
    expect(notices.locator("p")).to_have_text([told])
    assert page.evaluate("window.shown") == []  # it is looked at
    page.evaluate(AXE_SCRIPT)
    assert page.evaluate("axe.run('.hy-notices').then(found => found.violations.map(one => one.id))") == []

    page.evaluate(TURN, True)
    second = stored.run(stored.store.corpora.get(run.corpus_id or 0), "Unseen", finished=False)
    stored.end(second.job, status=JobStatus.FAILED, error="Full.")
    page.wait_for_function("window.shown.length === 1")
    assert page.evaluate("window.shown") == [
        ["Hydra Studio", f'Training of run {second.id} "Unseen" has failed. Full.']
    ]
    page.evaluate(TURN, False)
    notices.first.get_by_role("link", name="Open").click()
    page.wait_for_url(f"**/run?run={failed.id}*")
    expect(page.locator("#tray > button")).to_contain_text("2 failed")
    page.wait_for_timeout(3_000)  # more than one look
    expect(notices).to_have_count(0)  # each is told once

    page.locator("#tray > button").click()  # nothing of the page shines through it
    assert page.evaluate(COVERED) == []
