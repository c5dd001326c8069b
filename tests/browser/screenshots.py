"""Take the pictures of README and docs from a real session: ``make screenshots``.

Starts a studio on an empty folder, walks the whole thread on the sample corpus, and writes
``docs/screenshots/*.png``.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import PROJECT, Studio, wait_until
from tests.setup import find_chromium

FOLDER = PROJECT / "docs" / "screenshots"
OTHER = "Another seed"
LONG = 1_500_000  # ms a training may take


def shoot(page: Page, name: str, *, full: bool = True) -> None:
    """One picture, after figures have settled."""
    page.mouse.move(2, 2)
    page.wait_for_timeout(1_500)
    page.screenshot(path=FOLDER / f"{name}.png", full_page=full)
    print(name, flush=True)


def walk(page: Page, address: str, steps: int | None) -> None:
    """Upload, cluster, train."""
    page.goto(address)
    expect(page.get_by_text("No runs yet")).to_be_visible()
    shoot(page, "overview-empty", full=False)
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
    expect(page.locator("#chart-gates .main-svg").first).to_be_visible(timeout=120_000)
    page.wait_for_timeout(12_000)
    shoot(page, "run-live")
    expect(page.get_by_text("It took")).to_be_visible(timeout=LONG)
    shoot(page, "run")


TABS = {"Gates": "gate-layers", "Heads": "head-similarity", "Experts": "muted-layers"}  # tab -> a figure on it


def look(page: Page, address: str) -> None:
    """The pages that show what was learnt."""
    inspect(page, address, "inspect")
    page.goto(address + "/chat?run=1")
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
    page.goto(address)
    expect(page.get_by_text("done").first).to_be_visible()
    shoot(page, "overview", full=False)


def inspect(page: Page, address: str, name: str) -> None:
    """Every tab of Inspect."""
    page.goto(address + "/inspect?run=1")
    expect(page.get_by_text("Exact match on")).to_be_visible(timeout=300_000)
    shoot(page, f"{name}-answers", full=False)
    for tab, panel in TABS.items():
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f"#{panel} .main-svg").first).to_be_visible(timeout=300_000)
        shoot(page, f"{name}-{tab.lower()}")
    page.get_by_role("tab", name="Map").click()
    page.get_by_role("radio", name="t-SNE").click()
    expect(page.locator("#matrix-map .aid")).to_contain_text("t-SNE", timeout=300_000)
    shoot(page, f"{name}-map")
    page.get_by_role("tab", name="Runs").click()
    page.locator("#other-runs input").click()
    page.get_by_role("option", name=OTHER).click()
    page.keyboard.press("Escape")
    for panel in ("runs-together", "runs-map"):
        expect(page.locator(f"#{panel} .main-svg").first).to_be_visible(timeout=300_000)
    shoot(page, f"{name}-runs")
    page.get_by_role("button", name="Import an external adapter").click()
    shoot(page, f"{name}-import", full=False)


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


def again_in_the_dark(page: Page, address: str) -> None:
    """The same views with the dark theme."""
    for path, name in (
        ("/", "overview"),
        ("/corpora?corpus=1", "corpora"),
        ("/new-run?corpus=1", "new-run"),
        ("/run?run=1", "run"),
        ("/chat?conversation=1", "chat"),
    ):
        page.goto(address + path)
        page.wait_for_timeout(3_000)
        shoot(page, f"dark-{name}", full=name != "chat")
    inspect(page, address, "dark-inspect")


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
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.set_default_timeout(60_000)
            studio.let_in(page.context)
            walk(page, studio.address, options.steps)
            train_another(studio.home)
            look(page, studio.address)
            compare(page, studio.address, "1-2")
            dark = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="dark")
            dark.set_default_timeout(60_000)
            studio.let_in(dark.context)
            again_in_the_dark(dark, studio.address)
            compare(dark, studio.address, "1-2", "dark-")
            phone = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
            studio.let_in(phone.context)
            for path, name in (("/run?run=1", "phone-run"), ("/chat?conversation=1", "phone-chat")):
                phone.goto(studio.address + path)
                phone.wait_for_timeout(3_000)
                shoot(phone, name, full=False)
            compare(phone, studio.address, "1-2", "phone-")
            browser.close()
    finally:
        studio.end()


if __name__ == "__main__":
    main()
