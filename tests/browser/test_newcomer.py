"""The whole thread as somebody walks it who sees the studio for the first time, once by mouse, once by keyboard alone.

It takes minutes, so `make test-long` runs it; ``HYDRA_WALK_JSON=FILE`` keeps what each step took: seconds, clicks,
and keys of the keyboard.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import PROJECT, Studio

pytestmark = pytest.mark.browser
SAMPLE = PROJECT / "data" / "corpora" / "four-trades" / "four-trades.jsonl"
ROWS = 1_500
STEPS = 120  # a short training, so that the walk ends on a busy machine too: Quick has some 2,000 in three minutes
LONG = 600_000  # ms
MOST_TABS = 150  # presses of Tab until something is reached
# Counts what a person does, over all pages of the browser's session.
COUNT = """for (const kind of ['click', 'keydown']) addEventListener(kind, (event) => {
  if (event.isTrusted && !(kind === 'click' && event.detail === 0)) {
    sessionStorage[kind] = Number(sessionStorage[kind] ?? 0) + 1;
  }
}, true)"""


class Mouse:
    """Clicks."""

    name = "mouse"

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        target.click()

    def open_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def mute(self, slider: Locator) -> None:
        slider.click(position={"x": 1, "y": 4})

    def type(self, field: Locator, text: str) -> None:
        field.click()
        field.fill(text)


class Keyboard(Mouse):
    """Goes from stop to stop with Tab, and presses Enter."""

    name = "keyboard"

    def reach(self, target: Locator) -> None:
        """Press Tab until the target has the focus."""
        expect(target).to_be_visible()
        for _ in range(MOST_TABS):
            if target.evaluate("node => node === document.activeElement || node.contains(document.activeElement)"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{MOST_TABS} times Tab did not reach {target}")

    def press(self, target: Locator) -> None:
        self.reach(target)
        self.page.keyboard.press("Enter")

    def open_tab(self, name: str) -> None:
        self.reach(self.page.locator("[role=tab][aria-selected=true]").locator("visible=true").first)
        wanted = self.page.get_by_role("tab", name=name, exact=True)
        for _ in range(10):
            if wanted.get_attribute("aria-selected") == "true":
                return
            self.page.keyboard.press("ArrowRight")
        raise AssertionError(f"the arrows did not reach the tab {name}")

    def mute(self, slider: Locator) -> None:
        self.reach(slider)
        self.page.keyboard.press("Home")

    def type(self, field: Locator, text: str) -> None:
        self.reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)


class Walk:
    """Notes what each step took."""

    def __init__(self, page: Page) -> None:
        self.page, self.steps = page, {}  # type: ignore[var-annotated]

    def _counted(self) -> dict[str, int]:
        read = "() => ({ clicks: Number(sessionStorage.click ?? 0), keys: Number(sessionStorage.keydown ?? 0) })"
        found: dict[str, int] = self.page.evaluate(read)
        return found

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began, before = time.monotonic(), self._counted()
        yield
        after = self._counted()
        done = {kind: after[kind] - before[kind] for kind in after}
        self.steps[name] = {"seconds": round(time.monotonic() - began, 1), **done}

    def total(self, kind: str) -> float:
        return sum(step[kind] for step in self.steps.values())


def table(folder: Path) -> Path:
    """A table of questions and replies, as people have them."""
    lines = SAMPLE.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: len(lines) // ROWS]]
    with (folder / "questions.csv").open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file, delimiter=";")
        written.writerow(["Customer question", "What we reply", "Team"])
        written.writerows([row["prompt"], row["answer"], row.get("label", "")] for row in rows)
    return folder / "questions.csv"


@pytest.fixture
def visit(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """The first page of an empty studio."""
    studio = Studio(tmp_path / "home")
    studio.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(180_000)
    context.add_init_script(COUNT)
    studio.let_in(context)
    page = context.new_page()
    page.goto(studio.address)
    yield page
    context.close()
    studio.end()


@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("kind", [Mouse, Keyboard])
def test_somebody_new_uploads_trains_understands_mutes_and_exports(
    visit: Page, tmp_path: Path, kind: type[Mouse]
) -> None:
    hand, walk = kind(visit), Walk(visit)
    upload(visit, hand, walk, table(tmp_path))
    train(visit, hand, walk)
    understand(visit, hand, walk)
    mute(visit, hand, walk)
    export(visit, hand, walk)
    keep(hand, walk)
    assert walk.total("clicks" if kind is Mouse else "keys") > 0
    assert kind is Keyboard or walk.total("clicks") <= 20
    assert kind is Mouse or walk.total("clicks") == 0, "the mouse was needed"


def upload(page: Page, hand: Mouse, walk: Walk, file: Path) -> None:
    with walk.step("upload a table"):
        hand.press(page.get_by_role("link", name="Bring your data"))
        page.wait_for_url(re.compile("/corpora$"))
        with page.expect_file_chooser() as chosen:
            hand.press(page.locator("#corpus-files button").first)
        chosen.value.set_files(file)
        expect(page.locator("#corpus-files").get_by_text("questions")).to_be_visible()
        hand.press(page.locator("#add-corpus"))
        page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
        hand.press(page.locator("#import-corpus"))
        expect(page.get_by_text("rows read.")).to_be_visible(timeout=LONG)


def train(page: Page, hand: Mouse, walk: Walk) -> None:
    with walk.step("find its clusters"):
        hand.press(page.locator("#cluster"))
        expect(page.get_by_text("Suggested number of experts")).to_be_visible(timeout=LONG)
    with walk.step("start a training"):
        hand.press(page.get_by_role("link", name="Train on this"))
        page.wait_for_url(re.compile("/new-run"))
        expect(page.get_by_text("suggested number of experts")).to_be_visible(timeout=LONG)
        hand.type(page.locator("#field-max_steps input"), str(STEPS))
        hand.press(page.locator("#start-run"))
        page.wait_for_url(re.compile(r"run\?run=\d+"))
    with walk.step("wait until it is trained and asked"):
        expect(page.get_by_role("heading", name=re.compile("of [0-9,]+ unseen questions"))).to_be_visible(timeout=LONG)


def understand(page: Page, hand: Mouse, walk: Walk) -> None:
    with walk.step("understand the answers and the experts"):
        hand.open_tab("Answers")
        expect(page.locator("#answers")).to_be_visible()
        hand.open_tab("Experts")
        expect(page.locator("#expert-cards .hy-xcard").first).to_be_visible(timeout=LONG)
        hand.open_tab("Routing")
        expect(page.locator("#gate-layers .main-svg").first).to_be_visible(timeout=LONG)


def mute(page: Page, hand: Mouse, walk: Walk) -> None:
    with walk.step("ask, mute an expert, ask again"):
        hand.open_tab("Chat")
        hand.press(page.locator(".hy-examples button").first)
        again = page.get_by_role("button", name="Answer again")
        expect(again).to_be_visible(timeout=LONG)
        hand.mute(page.get_by_label("Strength of E1"))
        hand.press(again)
        expect(page.locator(".hy-msg.assistant", has_text="without E1")).to_be_visible(timeout=LONG)


def export(page: Page, hand: Mouse, walk: Walk) -> None:
    with walk.step("export it for other tools"):
        hand.open_tab("Export")
        expect(page.locator("#start-export")).to_be_enabled()
        hand.press(page.locator("#start-export"))
        expect(page.locator("#exports").get_by_text("Ready.")).to_be_visible(timeout=LONG)
        with page.expect_download() as loaded:
            hand.press(page.locator("#exports").get_by_role("link", name="Download"))
        assert loaded.value.suggested_filename.endswith(".zip")


def keep(hand: Mouse, walk: Walk) -> None:
    """Keep the figures where somebody asks for them."""
    path = os.environ.get("HYDRA_WALK_JSON")
    if not path:
        return
    file = Path(path)
    found: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    total = {kind: round(walk.total(kind), 1) for kind in ("seconds", "clicks", "keys")}
    found |= {"machine": machine, "rows": ROWS, "training_steps": STEPS, hand.name: {**walk.steps, "all": total}}
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
