"""The chat where it is hard: several people, a browser that goes away, text that attacks."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import Studio, wait_until
from tests.browser.test_pages import ATTACK

pytestmark = pytest.mark.browser
REMOTE = (
    '![picture](https://example.org/a.png) <img src="https://example.org/b.png"> <iframe src="https://example.org/c">'
)


@pytest.fixture(scope="module")
def store(studio: Studio) -> Store:
    return Store(Home(studio.home))


def begin(page: Page) -> None:
    """Begin a conversation."""
    page.get_by_text("Conversations", exact=True).click()
    page.get_by_role("button", name="+ New").click()


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def answered(store: Store, conversation: int) -> bool:
    found = store.chats.messages(conversation)
    return bool(found) and found[-1].role == "assistant" and found[-1].state == "done"


def test_two_people_who_chat_at_once_each_get_their_own_answer(page: Page, studio: Studio, store: Store) -> None:
    other = page.context.new_page()
    questions = {page: "Hello!", other: "What does a cow say?"}
    for tab in questions:
        tab.goto(studio.address + "/chat")
        begin(tab)
    wait_until(lambda: len(store.chats.all()) == 2)
    for tab, text in questions.items():
        ask(tab, text)
    for tab, text in questions.items():
        expect(tab.get_by_role("button", name="Answer again")).to_be_visible(timeout=120_000)
        expect(tab.locator(".hy-msg.user")).to_contain_text(text)
    talks = {c.id: [m.text for m in store.chats.messages(c.id)] for c in store.chats.all()}
    assert sorted(talk[0] for talk in talks.values()) == sorted(questions.values())
    assert all(len(talk) == 2 and talk[1] for talk in talks.values())


def test_an_answer_goes_on_when_the_browser_is_closed_and_is_there_afterwards(
    page: Page, studio: Studio, store: Store
) -> None:
    known, leaving = len(store.chats.all()), page.context.new_page()
    leaving.goto(studio.address + "/chat")
    begin(leaving)
    wait_until(lambda: len(store.chats.all()) == known + 1)
    conversation = store.chats.all()[0].id
    ask(leaving, "Tell me a story about a fox and a river.")
    expect(leaving.locator(".hy-msg.assistant .tok").first).to_be_visible(timeout=120_000)
    leaving.close()
    wait_until(lambda: answered(store, conversation))
    page.goto(f"{studio.address}/chat?conversation={conversation}")
    text = store.chats.messages(conversation)[-1].text.strip()
    expect(page.locator(".hy-msg.assistant .body")).to_contain_text(text[:40])


def test_what_is_asked_before_it_is_known_who_answers_waits_for_it(page: Page, studio: Studio, store: Store) -> None:
    page.route("**/ui/chat/start", lambda route: None)  # held until it is routed no more
    page.goto(studio.address + "/chat?try=1", wait_until="commit")
    page.get_by_role("button", name="1 Ask it something").click()
    page.wait_for_timeout(500)
    expect(page.locator(".hy-msg, .hy-note.bad")).to_have_count(0)
    page.unroute("**/ui/chat/start")
    expect(page.locator(".hy-msg.user")).to_contain_text("Hello!")
    expect(page.get_by_role("alert").locator("visible=true")).to_have_count(0)


def test_hostile_questions_and_answers_stay_text_and_fetch_nothing(page: Page, studio: Studio, store: Store) -> None:
    conversation = store.chats.create(title=ATTACK[:50], system=ATTACK)
    question = store.chats.ask(conversation.id, ATTACK + REMOTE)
    answer = store.chats.begin_answer(question, None, {})
    tokens = [[piece, None, 7] for piece in (ATTACK, REMOTE, "javascript:alert(1)")]
    store.chats.write_answer(answer.id, text=ATTACK + REMOTE, tokens=tokens, state="done")
    page.goto(f"{studio.address}/chat?conversation={conversation.id}")
    expect(page.locator(".hy-msg.assistant")).to_contain_text("onerror")
    expect(page.locator(".hy-msg.user")).to_contain_text("example.org")
    assert page.title() != "owned" and "49" not in page.locator(".hy-thread").inner_text()
    assert page.locator(".hy-thread").locator("img, iframe, script").count() == 0
    # That nothing was fetched from another host is asked by the page fixture itself.
