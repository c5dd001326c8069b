"""Pages at rest: rubbish uploads, hostile text, dark mode, phone width, keyboard."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import Studio, Trouble

pytestmark = pytest.mark.browser
PAGES = ("/", "/corpora", "/new-run", "/run", "/chat", "/endpoint", "/tour")
ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}${7*7}"


def upload(page: Page, studio: Studio, file: Path) -> None:
    page.goto(studio.address + "/corpora")
    page.locator("#corpus-files input[type=file]").set_input_files(file)
    expect(page.locator("#corpus-files").get_by_text(file.name.split(".")[0])).to_be_visible()
    page.locator("#add-corpus").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))


RUBBISH = {
    "empty.csv": b"",
    "binary.csv": bytes(range(256)) * 40,
    "broken.jsonl": b'{"prompt": "a", "answer": "b"}\n{"prompt": \n',
    "no-columns.jsonl": b'{"id": 1}\n{"id": 2}\n',
    "line.jsonl": b'{"text": "' + b"a" * 1_000_000 + b"\n",
}


OFTEN = ("broken.jsonl",)  # the others are told alike, and are tried without a browser too


@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.long) for n in RUBBISH])
def test_a_rubbish_file_gives_one_plain_sentence(page: Page, studio: Studio, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(RUBBISH[name])
    upload(page, studio, file)
    note = page.locator(".hy-note.bad")
    expect(note).to_be_visible()
    words = note.inner_text()
    assert "Traceback" not in words and "Error:" not in words
    assert len(words) < 600


def test_hostile_text_is_shown_and_never_run(page: Page, studio: Studio, tmp_path: Path) -> None:
    rows = [{"prompt": f"{ATTACK} {i}", "answer": f"{ATTACK} {i}", "label": ATTACK} for i in range(40)]
    file = tmp_path / "attack.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    upload(page, studio, file)
    expect(page.get_by_text("onerror").first).to_be_visible()
    page.locator("#import-corpus").click()
    page.locator("#cluster").click()
    expect(page.get_by_text("Suggested number of experts")).to_be_visible(timeout=120_000)
    page.goto(studio.address + "/new-run")
    page.goto(studio.address + "/chat")
    page.get_by_label("Message").fill(ATTACK)
    assert page.title() != "owned"
    assert page.locator("img[src=x]").count() == 0


def test_a_hostile_name_is_shown_and_never_run(page: Page, studio: Studio, tmp_path: Path) -> None:
    file = tmp_path / "plain.csv"
    file.write_text("question,answer\n" + "".join(f"what is {i},it is {i}\n" for i in range(30)), "utf-8")
    page.goto(studio.address + "/corpora")
    page.locator("#corpus-files input[type=file]").set_input_files(file)
    page.get_by_label("Name").fill(ATTACK[:70])
    page.locator("#add-corpus").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
    expect(page.get_by_role("heading", name=re.compile("img src"))).to_be_visible()
    assert page.title() != "owned"


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(chromium: Browser, studio: Studio, theme: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800}, color_scheme=theme)  # type: ignore[arg-type]
    studio.let_in(context)
    opened, trouble = context.new_page(), Trouble()
    trouble.watch(opened, studio.address)
    for path in PAGES:
        opened.goto(studio.address + path)
        expect(opened.locator("h1").first).to_be_visible(timeout=60_000)
        opened.wait_for_timeout(400)
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390, path
        dark = opened.evaluate("document.body.classList.contains('dark')")
        assert dark == (theme == "dark"), path
    context.close()
    assert trouble.errors == [] and trouble.foreign == []


@pytest.mark.parametrize(
    "address",
    [
        "/new-run?corpus=999",
        "/run?run=999&tab=chat",
        *(
            pytest.param(address, marks=pytest.mark.long)  # what their pages are given is tested without a browser too
            for address in (
                "/corpora?corpus=999",
                "/corpora?corpus=abc",
                "/new-run?again=999",
                "/run?run=999",
                "/run?run=abc",
                "/chat?conversation=999",
            )
        ),
    ],
)
def test_an_address_of_nothing_says_so_and_stays(page: Page, studio: Studio, address: str) -> None:
    page.goto(studio.address + address)
    expect(page.locator("h1").first).to_be_visible()
    expect(page.locator(".hy-empty").filter(has_text="does not exist").first).to_be_visible()
    page.wait_for_timeout(500)
    assert page.url == studio.address + address


@pytest.mark.long
def test_a_former_address_opens_the_tab_of_the_run(page: Page, studio: Studio) -> None:
    for former, today in (("/chat?run=999", "tab=chat&run=999"), ("/inspect?run=999", "tab=answers&run=999")):
        page.goto(studio.address + former)
        expect(page.locator(".hy-empty").filter(has_text="Run 999 does not exist").first).to_be_visible()
        assert page.url == f"{studio.address}/run?{today}"


def test_what_is_typed_before_the_page_has_loaded_stays(page: Page, studio: Studio) -> None:
    held: list[Route] = []
    waits = True

    def hold(route: Route) -> None:
        held.append(route) if waits else route.continue_()

    late: list[Route] = []
    page.route("**/gradio_api/run/predict**", hold)
    page.route("**/ui/static/studio.js", lambda route: late.append(route))  # the page's own module may come last
    page.goto(studio.address + "/new-run", wait_until="commit")
    steps, rank = page.locator("#field-max_steps input"), page.locator("#field-r input")
    steps.fill("77")
    expect(page.get_by_label("As set below")).to_be_checked()
    waits = False
    for route in held:
        route.continue_()
    page.wait_for_timeout(2_500)  # the page is filled, and the clock has ticked
    expect(steps).to_have_value("77")
    expect(rank).to_have_value("8")
    expect(page.get_by_label("As set below")).to_be_checked()
    for route in late:
        route.continue_()


@pytest.mark.parametrize("width, height", [(1280, 640), pytest.param(1280, 900, marks=pytest.mark.long), (390, 640)])
def test_the_message_box_is_in_sight(page: Page, studio: Studio, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(studio.address + "/chat")
    expect(page.get_by_label("Message")).to_be_visible()
    page.wait_for_timeout(500)
    for part in (page.get_by_label("Message"), page.get_by_role("button", name="Send")):
        box = part.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height, (width, height, box)


def test_the_two_ways_to_begin_are_reached_by_keyboard_alone(chromium: Browser, tmp_path: Path) -> None:
    fresh = Studio(tmp_path / "home", words=("--no-worker",))
    fresh.start()
    context = chromium.new_context()
    fresh.let_in(context)
    page = context.new_page()
    try:
        page.goto(fresh.address)
        expect(page.locator("#try-sample")).to_be_visible()
        expect(page.locator(".hy-answers .tok[data-expert]").first).to_be_visible()
        reached: list[str] = []
        while len(reached) < 14 and "try-sample" not in reached:
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
        ways = ["try-real-sample", "bring-data"] if page.locator("#try-real-sample").count() else ["bring-data"]
        for way in ways:
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == way
        for _ in ways:
            page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(fresh.address + "/tour")
        expect(page.get_by_text("step 1 of 4")).to_be_visible()
    finally:
        context.close()
        fresh.end()


def test_after_every_page_was_opened_the_web_process_holds_250_mb_of_its_own_at_most(
    page: Page, studio: Studio
) -> None:
    for _ in range(3):
        for path in ("/", "/corpora", "/runs", "/compare", "/new-run", "/run?run=1", "/chat", "/tour", "/bases"):
            page.goto(studio.address + path)
            expect(page.locator("#tray > button")).to_be_visible()
            page.wait_for_timeout(300)
    assert studio.process is not None
    assert psutil.Process(studio.process.pid).memory_full_info().uss < 250e6
