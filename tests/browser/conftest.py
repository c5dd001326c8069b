"""A real studio (web process, worker, jobs) and a real Chromium that writes down what goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, FloatRect, Locator, Page, expect, sync_playwright

from tests.setup import find_chromium

PROJECT = Path(__file__).resolve().parents[2]
expect.set_options(timeout=60_000)  # ms; a busy machine is slow, not wrong


@dataclass
class Studio:
    """`python app.py` over one folder; can be killed and started again on the same port."""

    home: Path
    port: int = 0
    token: str = "the-token-of-these-tests"
    words: tuple[str, ...] = ()  # more of the command line
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def errors(self) -> Path:
        """What the web process says on standard error."""
        return self.home.with_name(f"{self.home.name}-errors.txt")

    def start(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "2",
            "HYDRA_STUDIO_SERVER_IDLE_SECONDS": "120",
            "HYDRA_STUDIO_TOKEN": self.token,
        }
        command = [
            sys.executable,
            str(PROJECT / "app.py"),
            "--home",
            str(self.home),
            "--port",
            str(self.port),
            *self.words,
        ]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, f"the studio said {line!r}"
        self.port = int(found[1])
        wait_until(lambda: self.ask("/ui/health").status_code == 200)

    def ask(self, path: str) -> httpx.Response:
        """GET an address as a script does, with the token."""
        return httpx.get(self.address + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    def let_in(self, context: BrowserContext) -> None:
        """Give a browser the cookie that the token in the address gives."""
        reply = httpx.get(f"{self.address}/?token={self.token}")
        name, value = reply.headers["set-cookie"].partition(";")[0].split("=", 1)
        context.add_cookies([{"name": name, "value": value, "url": self.address}])

    def kill(self) -> None:
        """End the web process without warning; worker and jobs go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End web process, worker and every job; who called this may name the folder too, and goes on."""
        mine = [p for p in psutil.process_iter(["cmdline"]) if str(self.home) in " ".join(p.info["cmdline"] or ())]
        own = psutil.Process()
        mine = [p for p in mine if p not in (own, *own.parents())]
        family = [child for p in mine for child in (p, *p.children(recursive=True))]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)


@dataclass
class Trouble:
    """What a page must never do."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def watch(self, page: Page, address: str) -> None:
        page.on("console", lambda m: self.note_error(page, m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(f"{page.url}: {e}"))
        page.on("request", lambda r: self.note(r.url, address))

    def note_error(self, page: Page, text: str) -> None:
        # A page that is left ends the requests it still waits for; Gradio reports each, and nothing has failed.
        if "AbortError" not in text:
            self.errors.append(f"{page.url}: {text}")

    def note(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.foreign.append(url)


def wait_until(holds: object, seconds: float = 60.0) -> None:
    """Wait until ``holds()`` is true; connection errors count as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if holds():  # type: ignore[operator]
                return
        time.sleep(0.2)
    raise AssertionError(f"it did not become true within {seconds:.0f} s")


def still(part: Locator) -> FloatRect:
    """Scroll a part of the page into the middle, and give its box once nothing above it moves it any more."""
    seen: list[FloatRect | None] = []
    while len(seen) < 5 or any(box != seen[-1] for box in seen[-5:]):
        assert len(seen) < 300, f"it never stood still: {seen[-5:]}"
        part.evaluate("node => node.scrollIntoView({block: 'center'})")
        seen.append(part.bounding_box())
        part.page.wait_for_timeout(200)  # ms
    assert seen[-1] is not None
    return seen[-1]


@pytest.fixture(scope="module")  # while Playwright is open, an event loop runs in this thread: no file inherits it
def chromium() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium on this machine: `make test` installs one where it may")
        pytest.skip("no Chromium on this machine: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    running = Studio(tmp_path_factory.mktemp("home"))
    running.start()
    yield running
    running.end()
    assert "Traceback" not in running.errors.read_text("utf-8", "replace")


@pytest.fixture
def page(chromium: Browser, studio: Studio) -> Iterator[Page]:
    """A page that fails its test on any console error or any request to another host."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    studio.let_in(context)
    opened, trouble = context.new_page(), Trouble()
    trouble.watch(opened, studio.address)
    yield opened
    context.close()
    assert trouble.foreign == []
    assert [e for e in trouble.errors if "net::ERR_CONNECTION" not in e and "Connection" not in e] == []
