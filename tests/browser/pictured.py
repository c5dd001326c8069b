"""Every page and state of which there is a picture: what it is, its address, and what is done there first."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page

from tests.browser.camera import Act


@dataclass(frozen=True)
class State:
    """A page in one of its states: how its pictures are called, what it is, its address, and what is done there."""

    name: str
    words: str
    path: str
    act: Act | None = None
    full: bool = True


def press(selector: str) -> Act:
    """Click the first of something, and give it a moment."""

    def act(page: Page) -> None:
        page.locator(selector).first.click()
        page.wait_for_timeout(1_500)

    return act


def tick_two(page: Page) -> None:
    """Choose the first two runs of the list."""
    for box in page.locator("input[data-tick]").all()[:2]:
        box.check()
    page.wait_for_timeout(500)


def look_for(words: str) -> Act:
    """Type into the search of a corpus."""

    def act(page: Page) -> None:
        page.get_by_label("Search", exact=False).first.fill(words)
        page.wait_for_timeout(2_500)

    return act


EMPTY = (
    State("first-page", "The first page: what this is, shown by answers of a real run, and two ways to begin", "/"),
    State("corpora-empty", "Data, before there is any", "/corpora"),
    State("runs-empty", "Runs, before there are any", "/runs"),
    State("compare-empty", "Compare, before there is something to compare", "/compare"),
    State("new-run-empty", "New run, before there is a corpus", "/new-run"),
    State("tour-begin", "The tour, before it is begun", "/tour"),
)
SIGN_IN = State("sign-in", "Who comes without the token is asked for it", "/")
# What is to be seen while something works, in this order.
MOMENTS = (
    State("tour-clusters", "The tour, step 2 and 3: the kinds of question that were found", "/tour"),
    State("tour-training", "The tour, step 3: the loss falls, the gates part", "/tour"),
    State("tour-measure", "The tour, step 4: unseen questions are asked", "/tour"),
    State("tour-done", "The tour at its end", "/tour"),
    State("chat-tries", "The chat to which the tour leads, with three things to try", "/run?run=1&tab=chat&try=1"),
)
# The same of the two runs of ``Session.working``.
WORKING = (
    State("run-live", "A run while it trains: the verdict so far, its time, its curves", "/run?run={0}&tab=training"),
    State("home-working", "The first page as a workspace, while something works", "/"),
    State("run-waiting", "A run that waits for its turn", "/run?run={1}"),
    State(
        "tray",
        "The tray of jobs: what runs, what waits in which place, what failed and why",
        "/runs",
        press("#tray > button"),
        False,
    ),
)
STATES = (
    State("home", "The first page as a workspace", "/"),
    State("corpora", "A corpus: its steps, examples, clusters, problems", "/corpora?corpus=1"),
    State("corpora-search", "A selection of its rows: search, facets, loop", "/corpora?corpus=1", look_for("desk")),
    State("corpora-draft", "An upload before it is imported: what the model will see", "/corpora?corpus=2"),
    State("corpora-failed", "A file that could not be read, and the way on", "/corpora?corpus=3"),
    State("new-run", "New run: base, method, budget, what to expect", "/new-run?corpus=1"),
    State("runs", "The list of runs, two of them chosen", "/runs?sort=-exact", tick_two),
    State("run-answers", "A run: its verdict, and what it got wrong", "/run?run=1&tab=answers"),
    State("run-experts", "A run's experts: what each serves, and what is lost without it", "/run?run=1&tab=experts"),
    State("run-routing", "A run's routing: which expert speaks for which kind of question", "/run?run=1&tab=routing"),
    State("run-weights", "A run's matrices: how like they are, and where they lie", "/run?run=1&tab=weights"),
    State("chat", "The chat: every word in the colour of its leading expert, answers beside each other", ""),
    State("run-training", "A run's training: curves, settings, electricity", "/run?run=1&tab=training"),
    State("run-export", "A run's export to other tools, with the measured gap", "/run?run=1&tab=export"),
    State("run-failed", "A run that failed: why, what is kept, ways on", "/run?run=2"),
    State("run-missing", "A run that does not exist", "/run?run=999"),
    State("compare-scores", "Compare: the verdict, curves with their band, the table", "/compare?runs=1,3-5"),
    State("compare-answers", "Compare: answers beside each other", "/compare?runs=1,5&tab=answers"),
    State("compare-experts", "Compare: gates and experts of two runs", "/compare?runs=1,3&tab=experts"),
    State("compare-weights", "Compare: the matrices of two runs", "/compare?runs=1,3&tab=weights"),
    State("compare-cost", "Compare: cost against quality, parallel coordinates", "/compare?runs=1,3-5&tab=cost"),
    State("bases", "Base models", "/bases"),
    State("base", "One base model", "/bases?base=starter"),
    State("base-chat", "A chat with a base alone", "/chat"),
    State("endpoint", "The endpoint for programs", "/endpoint"),
)
REAL = State("chat-real", "The chat with SmolLM2-135M-Instruct after its tour: what a real language model says", "")
AWAY = State("away", "The studio went away: it is tried again, and what was typed stays", "/new-run?corpus=1")
ALL = (SIGN_IN, *EMPTY, *MOMENTS, *WORKING, *STATES, REAL, AWAY)
