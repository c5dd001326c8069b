"""Take the pictures of README and docs from a real session: ``make screenshots``.

Starts a studio on an empty folder, walks the whole thread on the sample corpus, and writes
``docs/screenshots/*.png``.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from jobs.home import Home
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from tests.browser.conftest import PROJECT, Studio, wait_until
from tests.setup import find_chromium

FOLDER = PROJECT / "docs" / "screenshots"
OTHER = "Another seed"
LONG = 1_500_000  # ms a training may take
TABS = ("answers", "experts", "routing", "weights", "training", "export")
OPEN = (*ACTIVE, JobStatus.QUEUED)


def shoot(page: Page, name: str, *, full: bool = True) -> None:
    """One picture, after figures have settled."""
    page.mouse.move(2, 2)
    page.wait_for_timeout(1_500)
    page.screenshot(path=FOLDER / f"{name}.png", full_page=full)
    print(name, flush=True)


def walk(page: Page, studio: Studio, steps: int | None) -> None:
    """The first page, then upload, cluster, train."""
    page.goto(studio.address)
    expect(page.get_by_role("heading", name="Teach a language model")).to_be_visible()
    expect(page.locator(".hy-answers .tok[data-expert]").first).to_be_visible()
    shoot(page, "first-page", full=False)
    page.goto(studio.address + "/corpora")
    page.locator("#use-sample").click()
    page.wait_for_url(re.compile(r"corpora\?corpus="))
    expect(page.get_by_text("duplicates")).to_be_visible()
    page.locator("#cluster").click()
    expect(page.locator("#corpus-map .legend li").first).to_be_visible(timeout=120_000)
    shoot(page, "corpora")
    page.get_by_role("link", name="Train on this").click()
    expect(page.get_by_text("suggested number of experts: 4")).to_be_visible()
    if steps:
        page.locator("#field-max_steps input").fill(str(steps))
    shoot(page, "new-run")
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"run\?run="))
    page.goto(page.url + "&tab=training")  # which stays open when the training ends
    expect(page.locator("#chart-loss .main-svg").first).to_be_visible(timeout=120_000)
    page.wait_for_timeout(12_000)
    shoot(page, "run-live")
    store = Store(Home(studio.home))
    wait_until(lambda: store.runs.get(1).summary is not None, LONG / 1_000)


def look(page: Page, studio: Studio, prefix: str = "") -> None:
    """Every tab of the run, once what it shows has been measured."""
    queue = Store(Home(studio.home)).queue
    for tab in TABS:
        page.goto(f"{studio.address}/run?run=1&tab={tab}")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(2_000)  # what is missing is asked for
        wait_until(lambda: not any(job.lane != "server" for job in queue.jobs(statuses=OPEN, limit=50)), 900)
        page.wait_for_timeout(3_000)
        shoot(page, f"{prefix}run-{tab}")


def chat(page: Page, studio: Studio) -> None:
    """A few answers, the last with two experts muted."""
    page.goto(studio.address + "/run?run=1&tab=chat")
    for index in (0, 2):
        page.locator(".hy-examples button").nth(index).click()
        page.wait_for_timeout(1_000)
        answered = page.locator(".hy-msg.assistant").last.get_by_role("button", name="Answer again")
        expect(answered).to_be_visible(timeout=120_000)
    for expert in ("E1", "E3"):
        page.get_by_label(f"Strength of {expert}").fill("0")
    page.get_by_role("button", name="Answer again").last.click()
    page.locator(".weighed summary").last.click(timeout=120_000)
    page.locator(".hy-msg.assistant .tok[data-expert]").nth(1).focus()
    shoot(page, "chat", full=False)


def compare(page: Page, address: str, runs: str, prefix: str = "") -> None:
    """The list of runs, and every part of Compare."""
    page.goto(address + "/runs?sort=-exact")
    expect(page.locator("#run-table tbody tr").first).to_be_visible()
    for box in page.locator("input[data-tick]").all()[:2]:
        box.check()
    shoot(page, f"{prefix}runs", full=False)
    page.locator("[data-clear]").click()
    for tab in ("scores", "answers", "experts", "weights", "cost"):
        page.goto(f"{address}/compare?runs={runs}&tab={tab}")
        expect(page.get_by_role("button", name=tab.capitalize(), exact=True)).to_be_visible()
        page.wait_for_load_state("networkidle")
        shoot(page, f"{prefix}compare-{tab}")


def train_another(home: Path) -> None:
    """A second, shorter run with another seed, to lay beside the first."""
    store = Store(Home(home))
    config = store.runs.get(1).config.model_dump()
    run = store.runs.start(1, {**config, "train": {**config["train"], "max_steps": 200, "seed": 1}}, name=OTHER)
    wait_until(lambda: store.runs.get(run.id).summary is not None, 600)


def stand(page: Page, address: str, prefix: str = "") -> None:
    """The pages that wait for nothing."""
    for path, name in (
        ("/", "home"),
        ("/corpora?corpus=1", "corpora"),
        ("/new-run?corpus=1", "new-run"),
        ("/run?run=1&tab=chat&conversation=1", "chat"),
        ("/bases?base=starter", "base"),
        ("/tour", "tour"),
    ):
        if not prefix and name in ("corpora", "new-run", "chat"):
            continue  # taken on the way
        page.goto(address + path)
        page.wait_for_timeout(3_000)
        shoot(page, f"{prefix}{name}", full=False)


def visit(browser: Browser, studio: Studio, width: int, scheme: Literal["light", "dark"]) -> Page:
    """A page of somebody who has the link."""
    page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    studio.let_in(page.context)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="shorter training than the preset, to try this script")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    studio = Studio(Path(tempfile.mkdtemp()))
    studio.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            page = visit(browser, studio, 1280, "light")
            walk(page, studio, options.steps)
            train_another(studio.home)
            look(page, studio)
            chat(page, studio)
            stand(page, studio.address)
            compare(page, studio.address, "1-2")
            for prefix, width in (("dark-", 1280), ("phone-", 390)):
                other = visit(browser, studio, width, "dark" if prefix == "dark-" else "light")
                look(other, studio, prefix)
                stand(other, studio.address, prefix)
                compare(other, studio.address, "1-2", prefix)
            browser.close()
    finally:
        studio.end()


if __name__ == "__main__":
    main()
