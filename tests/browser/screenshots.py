"""Take the pictures of README and docs from a real session: ``make screenshots``.

Three parts, each of which can be taken by itself (``--part``): ``empty`` is a studio in which nothing is, ``tour``
walks the sample through and trains more runs, ``states`` goes over the pages of what that left in ``--home``. Pictures
go to ``docs/screenshots/``, and the page that shows them is ``docs/pages.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from jobs.home import Home
from jobs.store.records import Job
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from jobs.tour import SETTING
from tests.browser.camera import Act, Camera
from tests.browser.conftest import PROJECT, Studio, wait_until
from tests.setup import find_chromium

FOLDER, PAGE = PROJECT / "docs" / "screenshots", PROJECT / "docs" / "pages.md"
PARTS = ("empty", "tour", "states")
LONG = 1_500  # seconds a training may take
OPEN = (*ACTIVE, JobStatus.QUEUED)
STEPS = 400  # of the runs that are laid beside the tour's
TICKETS = "Ticket;Customer question;What we reply\n" + "".join(
    f"T-{i};Where is order {i}?;It left our house on day {i % 28 + 1} and comes by post.\n" for i in range(60)
)


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
    State("run-live", "A run while it trains: the verdict so far, its time, its curves", "/run?run=1&tab=training"),
    State("home-working", "The first page as a workspace, while something works", "/"),
    State("tour-measure", "The tour, step 4: unseen questions are asked", "/tour"),
    State("tour-done", "The tour at its end", "/tour"),
    State("chat-tries", "The chat to which the tour leads, with three things to try", "/run?run=1&tab=chat&try=1"),
    State("run-waiting", "A run that waits for its turn", "/run?run=4"),
    State("tray", "The tray of jobs: what runs, what waits in which place, what failed and why", "/runs"),
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
AWAY = State("away", "The studio went away: it is tried again, and what was typed stays", "/new-run?corpus=1")
ALL = (SIGN_IN, *EMPTY, *MOMENTS, *STATES, AWAY)


class Session:
    """A studio over one home, and its pictures."""

    def __init__(self, browser: Browser, home: Path, names: Sequence[str]) -> None:
        self.browser, self.names = browser, names
        self.studio = Studio(home)
        self.studio.start()
        self.store = Store(Home(home))
        self.camera = Camera(browser, self.studio, FOLDER)

    def take(self, state: State, path: str = "") -> None:
        """The pictures of a state, unless only others are wanted."""
        if not self.names or state.name in self.names:
            self.camera.take(state.name, path or state.path, state.act, full=state.full)

    def rest(self) -> None:
        """Wait until nothing but the chat's server is at work."""
        queue = self.store.queue
        wait_until(lambda: not any(job.lane != "server" for job in queue.jobs(statuses=OPEN, limit=50)), LONG)

    # Parts

    def empty(self) -> None:
        """A studio in which nothing is."""
        strangers = Camera(self.browser, self.studio, FOLDER, is_known=False)
        if not self.names or SIGN_IN.name in self.names:
            strangers.take(SIGN_IN.name, SIGN_IN.path)
        for state in EMPTY:
            self.take(state)

    def tour(self, minutes: float) -> None:
        """The sample from its file to a chat, then more runs and corpora."""
        moments = {state.name: state for state in MOMENTS}
        self.store.settings.set(SETTING, {"minutes": minutes})
        self.camera.wide.goto(self.studio.address)
        self.camera.wide.locator("#try-sample").click()
        self.camera.wide.wait_for_url("**/tour")
        expect(self.camera.wide.locator("#tour-map .legend li").first).to_be_visible(timeout=300_000)
        self.take(moments["tour-clusters"])
        wait_until(lambda: bool(self.store.runs.all()) and (self._step(1) > 0.2), LONG)
        for name in ("tour-training", "run-live", "home-working"):
            self.take(moments[name])
        wait_until(lambda: self.store.runs.get(1).summary is not None, LONG)
        self.take(moments["tour-measure"])
        self.rest()
        self.take(moments["tour-done"])
        self.take(moments["chat-tries"])
        self.talk()
        self.bring_more()
        for name in ("run-waiting", "tray"):
            self.take(State(name, "", moments[name].path, press("#tray > button") if name == "tray" else None))
        self.rest()

    def _step(self, run_id: int) -> float:
        job: Job | None = self.store.runs.get(run_id).job
        return job.progress if job else 0.0

    @staticmethod
    def _is_over(job: Job | None) -> bool:
        return job is not None and job.is_finished

    def talk(self) -> None:
        """Ask, ask again without E2, and of the base: what the tour offers to try."""
        page = self.camera.wide
        page.goto(self.studio.address + "/run?run=1&tab=chat&try=1")
        tries = page.get_by_role("region", name="Three things to try")
        for place, name in enumerate(("1 Ask it", "2 Mute E2", "3 Compare"), 1):
            tries.get_by_role("button", name=name).click()
            answers = page.locator(".hy-msg.assistant")
            expect(answers).to_have_count(place, timeout=120_000)
            expect(answers.last.get_by_role("button", name="Answer again")).to_be_visible(timeout=120_000)

    def bring_more(self) -> None:
        """A run that fails, three that are laid beside the tour's, an upload and a file that cannot be read."""
        runs, work = self.store.runs, Path(tempfile.mkdtemp())
        config = runs.get(1).config.model_dump()

        def start(
            name: str, method: str = "hydralora", adapter: dict[str, object] | None = None, **train: object
        ) -> int:
            more = {"method": method, "adapter": config["adapter"] if adapter is None else adapter}
            more["train"] = {**config["train"], "max_steps": STEPS, **train}
            return runs.start(1, {**config, **more}, name=name).id

        failing = start("Far too fast", learning_rate=1.0, max_grad_norm=1e6, max_steps=60)
        wait_until(lambda: self._is_over(runs.get(failing).job), LONG)
        start("HydraLoRA, seed 1", seed=1)
        start("HydraLoRA, seed 2", seed=2)
        start("LoRA r 8", "lora")
        (work / "support.csv").write_text(TICKETS, "utf-8")
        (work / "scan.csv").write_bytes(bytes(range(256)) * 40)
        for name in ("support", "scan"):
            corpus = self.store.corpora.draft(name.capitalize(), [work / f"{name}.csv"]).id
            wait_until(
                lambda corpus=corpus: (job := self.store.corpora.get(corpus).job) is not None and job.is_finished
            )

    def states(self) -> None:
        """Every page at rest, once what it shows has been measured."""
        for run in self.store.runs.all():
            if run.summary is not None:
                for kind in ("answers", "routing"):
                    self.store.analyses.ask(run.id, kind)
        talk = self.store.chats.all()[0].id if not self.names or "chat" in self.names else 0
        for state in STATES:
            if self.names and state.name not in self.names:
                continue
            path = state.path or f"/run?run=1&tab=chat&conversation={talk}"
            self.camera.wide.goto(self.studio.address + path)  # which asks for what is missing
            self.camera.settle(self.camera.wide)
            self.rest()
            self.take(state, path)
        self.away()

    def away(self) -> None:
        """The web process is killed under an open page."""
        if self.names and AWAY.name not in self.names:
            return
        for page in (self.camera.wide, self.camera.phone):
            page.goto(self.studio.address + AWAY.path)
            self.camera.settle(page)
        self.studio.kill()
        for page in (self.camera.wide, self.camera.phone):
            page.bring_to_front()
            expect(page.locator(".hy-live").first).to_contain_text("The studio cannot be reached")
            self.camera.keep(page, AWAY.name, full=False)
        self.studio.start()


ABOUT = """# Every page, in every state

Taken from a real session on the shipped sample by `make screenshots` (AMD EPYC, two shared cores, no GPU), each in
light, in dark and as a phone shows it. A picture opens in its full size.

| what | light | dark | phone |
|---|---|---|---|
"""
WIDTHS = {"": 300, "-dark": 300, "-phone": 110}  # pixels


def write_page() -> None:
    """The page of the docs that shows every picture there is."""
    rows = []
    for state in ALL:
        shots = {f"screenshots/{state.name}{look}.webp": width for look, width in WIDTHS.items()}
        cells = [
            f'<a href="{at}"><img src="{at}" width="{width}" alt="{state.words}"></a>' for at, width in shots.items()
        ]
        rows.append(f"| {state.words} | {' | '.join(cells)} |")
    PAGE.write_text(ABOUT + "\n".join(rows) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="folder of the session, so that its parts can be taken one by one")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--take", nargs="+", default=(), help="only the states of these names")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the tour's training")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    home = options.home or Path(tempfile.mkdtemp())
    write_page()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for part in options.part:
            session = Session(browser, Path(tempfile.mkdtemp()) if part == "empty" else home, options.take)
            try:
                session.tour(options.minutes) if part == "tour" else getattr(session, part)()
            finally:
                session.studio.end()
        browser.close()


if __name__ == "__main__":
    main()
