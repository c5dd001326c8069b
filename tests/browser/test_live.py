"""A page that follows what changes: a small page of its own, and a studio that says when something is new."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import gradio as gr
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Browser, Page, expect

from studio.pages.common import TICK
from studio.web.theme import CSS, HEAD, STATIC
from studio.widgets import LiveChanges

pytestmark = pytest.mark.browser


@dataclass
class Changes:
    """``GET /ui/changes`` as the studio answers it."""

    stamp: str = "first"
    is_lost: bool = False
    slow: float = 0.0  # seconds that the page takes to draw
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, query: dict[str, str]) -> Response:
        self.asked.append(query)
        if self.is_lost:
            return JSONResponse({"detail": "Not now."}, status_code=503)
        return Response(status_code=204) if query.get("since") == self.stamp else JSONResponse({"stamp": self.stamp})


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def address(changes: Changes) -> Iterator[str]:
    """A page that shows how often it was told, and of what."""

    def tell(before: str, event: gr.EventData) -> str:
        time.sleep(changes.slow)
        of, stamp = event._data["of"], event._data["stamp"]
        return f"{before or ''}{of} {stamp};"

    with gr.Blocks() as blocks:
        gr.HTML("<h1>Live</h1>")
        told, live, other = gr.Textbox(label="Told"), LiveChanges({"of": "run-1"}), gr.Button("Another run")
        live.select(tell, told, told, **TICK)
        other.click(lambda: {"of": "run-2"}, None, live)
    app = FastAPI()

    @app.get("/ui/changes")
    def answer(of: str, since: str | None = None) -> Response:
        return changes.answer({"of": of, **({"since": since} if since else {})})

    app.mount("/ui/static", StaticFiles(directory=STATIC))
    gr.mount_gradio_app(app, blocks, path="/", css_paths=[CSS], head=HEAD)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Page]:
    page = chromium.new_page()
    page.goto(address)
    expect(page.locator("h1")).to_be_visible()
    yield page
    page.close()


def wait_for(changes: Changes, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(changes.asked) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(changes.asked) >= count


def test_what_has_changed_is_told_to_the_page_and_the_first_look_is_not(opened: Page, changes: Changes) -> None:
    wait_for(changes, 2)
    expect(opened.get_by_label("Told")).to_have_value("")
    changes.stamp = "second"
    expect(opened.get_by_label("Told")).to_have_value("run-1 second;")
    wait_for(changes, len(changes.asked) + 2)
    expect(opened.get_by_label("Told")).to_have_value("run-1 second;")
    assert changes.asked[0] == {"of": "run-1"}
    assert changes.asked[-1] == {"of": "run-1", "since": "second"}


def test_news_that_comes_while_the_page_is_drawn_is_not_lost(opened: Page, changes: Changes) -> None:
    wait_for(changes, 2)
    changes.slow, changes.stamp = 4.0, "second"
    while {"of": "run-1", "since": "second"} not in changes.asked:
        time.sleep(0.05)
    changes.stamp = "third"
    # It is called once more; what is drawn is what there is then, so that its event may be the former one.
    expect(opened.get_by_label("Told")).to_have_value(re.compile("run-1 second;run-1 (second|third);"))


def test_another_value_is_followed_from_its_own_beginning(opened: Page, changes: Changes) -> None:
    wait_for(changes, 1)
    opened.get_by_role("button", name="Another run").click()
    wait_for(changes, len(changes.asked) + 2)
    assert {"of": "run-2"} in changes.asked and changes.asked[-1]["of"] == "run-2"
    expect(opened.get_by_label("Told")).to_have_value("")


def test_a_lost_studio_is_told_in_a_line_that_goes_when_it_is_back(opened: Page, changes: Changes) -> None:
    wait_for(changes, 1)
    line = opened.locator(".hy-live")
    expect(line).to_be_hidden()
    changes.is_lost = True
    expect(line).to_have_text("The studio cannot be reached. It is tried again; what you typed stays.")
    changes.is_lost = False
    expect(line).to_be_hidden()
