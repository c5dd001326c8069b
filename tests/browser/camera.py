"""Pictures of a page in light, in dark and as a phone shows it, small enough to keep."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Studio

WIDE, PHONE = (1280, 860), (390, 844)
QUALITY = 78  # of WebP
MOST = 16_383  # pixels that a side of WebP may have
# The page that asks for the token is none of Gradio's, and has no class for it.
IS_DARK = "() => document.body.classList.contains('dark') || !document.querySelector('gradio-app')"
# What stands on a page, by the beginning of its address, once the studio has told it what to show.
STANDS = {
    "/run?": ".hy-outcome h1, .hy-outcome h2, .hy-empty",
    "/corpora?": ".hy-head h1, .hy-empty",
    "/compare": "#compare-top h2, .hy-empty",
    "/tour": "#tour h1",
    "/new-run": "#run-corpus",
}
# Every figure that is seen is drawn, or says why it is not.
IS_DRAWN = """() => !document.body.innerText.includes('is being fetched')
  && [...document.querySelectorAll('.pl-host')].filter((host) => host.offsetParent !== null)
    .every((host) => host.querySelector('.main-svg') || host.parentElement.innerText.trim())"""
Act = Callable[[Page], None]


class Camera:
    """Two windows that stay open, one of them as wide as a phone; each picture is written as ``<name>.webp`` and the
    like."""

    def __init__(self, browser: Browser, studio: Studio, folder: Path, *, is_known: bool = True) -> None:
        self.studio, self.folder = studio, folder
        self.wide, self.phone = (self._window(browser, size, is_known) for size in (WIDE, PHONE))
        self.looks = (self.wide, self.phone)  # of which pictures are taken

    def _window(self, browser: Browser, size: tuple[int, int], is_known: bool) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        context.set_default_timeout(60_000)
        if is_known:
            self.studio.let_in(context)
        return context.new_page()

    def take(self, name: str, path: str, act: Act | None = None, *, full: bool = True) -> None:
        """Open an address in both windows, do something there, and take the three pictures."""
        for page in self.looks:
            page.emulate_media(color_scheme="light")
            page.goto(self.studio.address + path)
            self.settle(page, path)
            if act is not None:
                act(page)
            self.keep(page, name, full=full)
        print(name, flush=True)

    def settle(self, page: Page, path: str = "") -> None:
        """Wait until what a page loads is there."""
        stands = next((selector for begin, selector in STANDS.items() if path.startswith(begin)), "h1, h2")
        expect(page.locator(stands).locator("visible=true").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        for _ in range(2):  # what is drawn may ask for more
            page.wait_for_timeout(800)
            page.wait_for_function(IS_DRAWN)

    def keep(self, page: Page, name: str, *, full: bool = True) -> None:
        """The pictures of a window as it stands: two of the wide one."""
        if page is self.phone:
            self._shoot(page, f"{name}-phone", full)
            return
        self._shoot(page, name, full)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(IS_DARK)
        page.wait_for_timeout(500)  # figures are painted anew
        self._shoot(page, f"{name}-dark", full)
        page.emulate_media(color_scheme="light")

    def _shoot(self, page: Page, name: str, full: bool) -> None:
        page.mouse.move(2, 2)
        page.wait_for_timeout(400)
        taken = Image.open(io.BytesIO(page.screenshot(full_page=full))).convert("RGB")
        taken.crop((0, 0, taken.width, min(taken.height, MOST))).save(
            self.folder / f"{name}.webp", quality=QUALITY, method=6
        )
