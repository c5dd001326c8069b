"""Rows are selected on the map and by the fields, left out, and the next run trains on the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from hydralora.config import TrainConfig
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.split import split_examples
from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import Studio, still
from tests.studio.stored import Stored

pytestmark = pytest.mark.browser
RUNS, DOORS = 40, 24


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio without a worker over one corpus of two kinds of text, clustered."""
    folder = tmp_path_factory.mktemp("selection")
    stored = Stored(Store(Home(folder)))
    rows = [{"prompt": f"How far is run {i} of the river race?", "answer": f"{i} miles"} for i in range(RUNS)]
    rows += [{"prompt": f"Which paint has door {i} <b>here</b>?", "answer": "red paint"} for i in range(DOORS)]
    corpus = stored.corpus("Two kinds", rows)
    made = stored.store.clusterings.add(corpus.id, 2)
    found = cluster_corpus(stored.home.corpus(corpus.id), stored.home.clustering(made.id), k=2)
    stored.end(made.job, found.row())
    running = Studio(folder, words=("--no-worker",))
    running.start()
    yield running
    running.end()


def open_map(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.address}/corpora?corpus=1")
    expect(page.locator("#corpus-map .legend li")).to_have_count(2)
    page.locator("#corpus-map .stage").evaluate("node => node.scrollIntoView({block: 'center'})")


def loop_around_all(page: Page) -> None:
    """Draw a loop along the edges of the map."""
    page.get_by_role("button", name="Draw a loop").click()
    box = still(page.locator("#corpus-map .stage"))
    corners = [(0.004, 0.01), (0.996, 0.01), (0.996, 0.99), (0.004, 0.99), (0.004, 0.03)]
    points = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def test_a_loop_is_left_out_and_the_next_run_trains_on_the_rest(page: Page, studio: Studio) -> None:
    open_map(page, studio)
    count = page.locator("#selected-count")
    loop_around_all(page)
    expect(count).to_contain_text(f"{RUNS + DOORS} rows of {RUNS + DOORS} selected")
    page.locator("#search-rows input").fill("paint")
    expect(count).to_contain_text(f"{DOORS} rows of {RUNS + DOORS} selected")
    expect(page.locator("#selected-rows")).to_contain_text("Page 1 of 3")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSONL", exact=True).last.click()
    assert len(download.value.path().read_text("utf-8").splitlines()) == DOORS
    page.get_by_label("Name of the selection").fill("doors")
    page.locator("#name-selection").click()
    expect(page.locator("#saved-selection")).to_be_visible()
    page.locator("#exclude-selection").click()
    expect(page.get_by_text(f"{DOORS} examples are left out of every new run")).to_be_visible()
    expect(count).to_contain_text(f"{DOORS} left out already")
    page.locator("#clear-selection").click()
    expect(count).to_contain_text(f"All {RUNS + DOORS} rows")
    expect(page.locator("#corpus-map polygon")).to_have_attribute("points", "")
    page.goto(f"{studio.address}/new-run?corpus=1")
    expect(page.get_by_label("Corpus")).to_have_value(f"Two kinds ({RUNS + DOORS} examples)")
    expect(page.get_by_text("number of experts: ")).to_be_visible()
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"run\?run=\d+"))
    store = Store(Home(studio.home))
    (run,) = store.runs.all()
    assert run.config.train.selection == store.exclusions.name(1) != ""
    split = split_examples(Rows(store.home.corpus(1)), TrainConfig(selection=run.config.train.selection))
    assert len(split.train) + len(split.held_out) == RUNS and max(split.train) < RUNS


def test_a_point_is_drawn_read_clicked_and_found_again_by_the_keyboard(page: Page, studio: Studio) -> None:
    open_map(page, studio)
    stage = page.locator("#corpus-map .stage")
    page.get_by_label("Search").press_sequentially("run 7 ")
    expect(page.locator("#selected-count")).to_contain_text("1 row of")
    page.locator("#clear-selection").click()
    expect(page.locator("#selected-count")).to_contain_text("All")
    box = still(stage)
    tip = page.locator("#corpus-map .tip")
    for place in range(400):  # until some point lies under the pointer
        page.mouse.move(
            box["x"] + box["width"] * (place % 20 + 0.5) / 20, box["y"] + box["height"] * (place // 20) / 20
        )
        if page.locator("#corpus-map .ring:not([hidden])").count():
            break
    expect(tip).to_be_visible()
    expect(tip).to_contain_text(re.compile(r"Row \d+, C[12]"))
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#selected-count")).to_contain_text("1 row of")
    stage.focus()
    names = page.locator("#corpus-map .names span")
    before = names.first.get_attribute("style")
    page.keyboard.press("+")
    expect(names.first).not_to_have_attribute("style", before or "")


@pytest.mark.long
def test_a_lost_context_comes_back_with_all_points(page: Page, studio: Studio) -> None:
    open_map(page, studio)
    stage = page.locator("#corpus-map canvas")
    stage.evaluate(
        "canvas => { const lost = canvas.getContext('webgl2').getExtension('WEBGL_lose_context');"
        "canvas.back = new Promise((done) => canvas.addEventListener('webglcontextrestored', done, {once: true}));"
        "lost.loseContext(); setTimeout(() => lost.restoreContext(), 200); }"
    )
    stage.evaluate("canvas => canvas.back")
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_timeout(500)
    assert page.locator("#corpus-map .msg").is_hidden()


def test_a_browser_without_webgl_is_told_so_and_keeps_the_table(chromium: Browser, studio: Studio) -> None:
    context = chromium.new_context()
    studio.let_in(context)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null;")
    page.goto(f"{studio.address}/corpora?corpus=1")
    expect(page.get_by_text("This browser has no WebGL2")).to_be_visible()
    expect(page.locator("#selected-rows")).to_contain_text("Page 1 of")
    context.close()
