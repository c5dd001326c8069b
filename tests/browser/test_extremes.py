"""Pages at their limits: 500 runs, long names, long answers, things that vanish, a studio that goes away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from jobs.home import Home
from jobs.store.records import Corpus
from jobs.store.rows import NAME_LIMIT
from jobs.store.store import Store
from tests.browser.conftest import Studio
from tests.studio.stored import LAYERS, Stored

pytestmark = pytest.mark.browser
RUNS = 500
LONG = "A very long name of a run without an end " * 10
WORDS = 4_000  # tokens of the long answer
# How many changes of the page one press of a key makes.
CHANGES = """async ([node, key]) => {
  let count = 0;
  const watch = new MutationObserver((found) => { count += found.length; });
  watch.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  node.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  await new Promise((done) => setTimeout(done, 300));
  watch.disconnect();
  return count;
}"""


@dataclass
class Crowd:
    """A studio with very much in it, and no worker."""

    studio: Studio
    stored: Stored
    corpus: Corpus

    @property
    def address(self) -> str:
        return self.studio.address


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("crowd")
    stored = Stored(Store(Home(folder)))
    corpus = stored.corpus("Trades")
    for number in range(1, RUNS + 1):
        stored.run(corpus, f"Run number {number}")
    running = Studio(folder, words=("--no-worker",))
    running.start()
    yield Crowd(running, stored, corpus)
    running.end()


@pytest.fixture
def reader(chromium: Browser, crowd: Crowd) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    crowd.studio.let_in(context)
    yield context.new_page()
    context.close()


def talk(crowd: Crowd, run: int, words: int) -> int:
    """A conversation with one answer of so many words."""
    chats = crowd.stored.store.chats
    conversation = chats.create(title=f"{words} words")
    question = chats.ask(conversation.id, "Tell me everything.")
    answer = chats.begin_answer(question, run, {})
    shares = ([[0.7, 0.3], [0.6, 0.4]], [[0.2, 0.8], [0.4, 0.6]])
    tokens = [[f" word{i}", shares[i // 7 % 2], i % 50] for i in range(words)]
    text = "".join(token[0] for token in tokens)
    chats.write_answer(answer.id, text=text, tokens=tokens, state="done", details={"layers": LAYERS})
    return conversation.id


def answer_of(page: Page, address: str, run: int, conversation: int, words: int) -> Locator:
    """The words of an answer, once all of them are there."""
    page.goto(f"{address}/run?run={run}&tab=chat&conversation={conversation}")
    found = page.locator(".hy-msg.assistant .tok")
    expect(found).to_have_count(words)
    return found


def test_500_runs_are_paged_searched_and_opened(reader: Page, crowd: Crowd) -> None:
    reader.goto(crowd.address + "/runs")
    expect(reader.get_by_text(f"{RUNS} of {RUNS} runs")).to_be_visible()
    expect(reader.locator("#run-table tbody tr")).to_have_count(50)
    reader.get_by_label("Find runs by name").fill("number 417")
    expect(reader.locator("#run-table tbody tr")).to_have_count(1)
    reader.get_by_role("link", name="Run number 417").click()
    expect(reader.locator(".hy-outcome .who")).to_contain_text("Run number 417")


def test_500_runs_stand_beside_each_other_in_compare(reader: Page, crowd: Crowd) -> None:
    reader.goto(f"{crowd.address}/compare?runs=1-{RUNS}")
    expect(reader.get_by_role("button", name="Scores", exact=True)).to_be_visible()
    expect(reader.locator("#compare-top h2").first).to_contain_text("HydraLoRA")
    assert reader.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("width", [1280, 390])
def test_a_very_long_name_widens_no_page(reader: Page, crowd: Crowd, width: int) -> None:
    run = crowd.stored.run(crowd.corpus, LONG[:NAME_LIMIT])
    reader.set_viewport_size({"width": width, "height": 900})
    for path in (f"/run?run={run.id}", "/runs", f"/compare?runs=1,{run.id}", "/", f"/corpora?corpus={crowd.corpus.id}"):
        reader.goto(crowd.address + path)
        expect(reader.locator("h1").first).to_be_visible()
        reader.wait_for_load_state("networkidle")
        assert reader.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_run_that_is_deleted_in_another_tab_says_so(reader: Page, crowd: Crowd) -> None:
    run = crowd.stored.run(crowd.corpus, "Soon gone")
    reader.goto(f"{crowd.address}/run?run={run.id}&tab=training")
    expect(reader.locator(".hy-outcome .who")).to_contain_text("Soon gone")
    crowd.stored.store.runs.delete(run.id)
    expect(reader.locator(".hy-empty").filter(has_text=f"Run {run.id} does not exist")).to_be_visible()


def test_of_two_tabs_opened_in_quick_succession_the_last_one_is_filled(reader: Page, crowd: Crowd) -> None:
    reader.goto(f"{crowd.address}/run?run=1&tab=export")
    expect(reader.get_by_role("tab", name="Export", exact=True)).to_have_attribute("aria-selected", "true")
    reader.wait_for_load_state("networkidle")
    reader.evaluate(
        "() => { for (const name of ['experts', 'training']) document.querySelector(`[data-name=${name}]`).click(); }"
    )
    expect(reader.locator("#chart-loss")).to_contain_text("The first numbers appear with the first step.")


def test_moving_through_an_answer_of_4000_words_changes_no_more_than_through_a_short_one(
    reader: Page, crowd: Crowd
) -> None:
    counts = []
    for words in (40, WORDS):
        found = answer_of(reader, crowd.address, 1, talk(crowd, 1, words), words)
        found.nth(20).focus()
        reader.wait_for_timeout(300)
        handle = found.nth(20).element_handle()
        counts.append(reader.evaluate(CHANGES, [handle, "ArrowRight"]))
        expect(found.nth(21)).to_be_focused()
    assert counts[1] <= counts[0] + 2


def test_what_is_typed_stays_while_the_studio_is_away(chromium: Browser, crowd: Crowd) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    crowd.studio.let_in(context)
    settings, chat = context.new_page(), context.new_page()
    settings.goto(f"{crowd.address}/new-run?corpus={crowd.corpus.id}")
    expect(settings.locator("#start-run")).to_be_visible()
    settings.wait_for_load_state("networkidle")
    settings.locator("#field-max_steps input").fill("33")
    chat.goto(f"{crowd.address}/run?run=1&tab=chat")
    chat.get_by_label("Message").fill("A long thought.")
    crowd.studio.kill()
    try:
        expect(settings.locator(".hy-live").first).to_contain_text("The studio cannot be reached")
    finally:
        crowd.studio.start()
    settings.bring_to_front()  # a tab that nobody sees asks for nothing
    expect(settings.locator(".hy-live").first).to_be_hidden()
    expect(settings.locator("#field-max_steps input")).to_have_value("33")
    expect(chat.get_by_label("Message")).to_have_value("A long thought.")
    settings.locator("#start-run").click()
    settings.wait_for_url("**/run?run=*")
    newest = crowd.stored.store.runs.all()[0]
    assert newest.config.train.max_steps == 33
    context.close()
