"""Take the pictures of README and docs from a real session: ``make screenshots``.

Five parts, each of which can be taken by itself (``--part``): ``empty`` is a studio in which nothing is, ``tour``
walks the sample through, ``more`` adds runs and corpora, ``working`` shows what is at work, and ``states`` goes over
the pages of what these left in ``--home``. One more is taken where it is named: ``real`` walks the sample through with
SmolLM2, in a home of its own, and says how long that took. Pictures go to ``docs/screenshots/``; ``docs/pages.md``
shows them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from playwright.sync_api import Browser, expect, sync_playwright

from hydralora.bases.packages import SMOLLM2
from jobs.home import Home
from jobs.runner.ownership import started_in
from jobs.store.records import Job
from jobs.store.status import ACTIVE, JobStatus
from jobs.store.store import Store
from jobs.tour import SETTING, Tour
from tests.browser.camera import Camera
from tests.browser.conftest import PROJECT, Studio, wait_until
from tests.browser.pictured import ALL, AWAY, EMPTY, MOMENTS, REAL, SIGN_IN, STATES, WORKING, State
from tests.setup import find_chromium

FOLDER, PAGE = PROJECT / "docs" / "screenshots", PROJECT / "docs" / "pages.md"
PARTS = ("empty", "tour", "more", "working", "states")
APART = ("empty", "real")  # parts with a home of their own
LONG = 1_500  # seconds a training may take
OPEN = (*ACTIVE, JobStatus.QUEUED)
STEPS = 150  # of the runs that are laid beside the tour's
TICKETS = "Ticket;Customer question;What we reply\n" + "".join(
    f"T-{i};Where is order {i}?;It left our house on day {i % 28 + 1} and comes by post.\n" for i in range(60)
)


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

    def catch(self, state: State) -> None:
        """The pictures of a moment that is soon over: what works at it stands still meanwhile."""
        queue, home = self.store.queue, self.store.home
        wait_until(lambda: any(job.lane != "server" for job in queue.jobs(statuses=ACTIVE, limit=9)))
        begun = [started_in(home.job(job.id, job.attempt)) for job in queue.jobs(statuses=ACTIVE, limit=9)]
        working = [child for one in begun if one for child in psutil.Process(one["pid"]).children(recursive=True)]
        for one in working:
            one.suspend()
        try:
            self.take(state)
        finally:
            for one in working:
                one.resume()

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
        self.take(moments["tour-training"])
        wait_until(lambda: self.store.runs.get(1).summary is not None, LONG)
        self.catch(moments["tour-measure"])
        self.rest()
        self.take(moments["tour-done"])
        self.take(moments["chat-tries"])
        if not self.names or "chat" in self.names:
            self.talk()

    def working(self) -> None:
        """What is to be seen while something works: one more run trains, and another waits."""
        self.rest()
        more = self.store.runs.get(3).config.model_dump()
        ids = [
            self.store.runs.start(1, {**more, "train": {**more["train"], "seed": seed, "max_steps": 2_000}}).id
            for seed in (3, 4)
        ]
        wait_until(lambda: self._step(ids[0]) > 0.05, LONG)
        for state in WORKING:
            self.take(state, state.path.format(*ids))
        for run_id in ids:
            self.store.runs.stop(run_id)
        self.rest()
        for run_id in ids:
            self.store.runs.delete(run_id)

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
        for name, count in (("1 Ask it", 1), ("2 Mute E2", 2), ("3 Compare", 4)):  # the last one asks both anew
            tries.get_by_role("button", name=name).click()
            answers = page.locator(".hy-msg.assistant")
            expect(answers).to_have_count(count, timeout=120_000)
            expect(answers.last.get_by_role("button", name="Copy")).to_be_visible(timeout=120_000)

    def real(self) -> None:
        """The tour with a real language model, and its chat."""
        began = time.monotonic()
        tour = Tour(self.store)
        tour.begin(base=SMOLLM2.name)
        wait_until(lambda: tour.is_done or tour.problem is not None, 2 * LONG)
        print(f"the tour with {SMOLLM2.title}: {time.monotonic() - began:.0f} s, {tour.problem or 'done'}", flush=True)
        self.rest()
        self.talk()
        talk = self.store.chats.all()[0].id
        self.take(REAL, f"/run?run=1&tab=chat&conversation={talk}")

    def more(self) -> None:
        """A run that fails, three that are laid beside the tour's, an upload and a file that cannot be read."""
        runs, work = self.store.runs, Path(tempfile.mkdtemp())
        config = runs.get(1).config.model_dump()

        def start(name: str, method: str = "hydralora", **train: object) -> int:
            adapter = config["adapter"] if method == "hydralora" else {"r": 8}
            more = {"method": method, "adapter": adapter, "train": {**config["train"], "max_steps": STEPS, **train}}
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
            wait_until(lambda corpus=corpus: self._is_over(self.store.corpora.get(corpus).job))
        self.rest()

    def states(self) -> None:
        """Every page at rest, once what it shows has been measured."""
        for run in self.store.runs.all():
            if run.summary is not None:
                self.store.analyses.ask(run.id, "answers")
        talk = self.store.chats.all()[0].id if not self.names or "chat" in self.names else 0
        for state in STATES:
            if self.names and state.name not in self.names:
                continue
            path = state.path or f"/run?run=1&tab=chat&conversation={talk}"
            self.camera.wide.goto(self.studio.address + path)  # which asks for what is missing
            self.camera.settle(self.camera.wide, path)
            self.rest()
            self.take(state, path)
        self.away()

    def away(self) -> None:
        """The web process is killed under an open page."""
        if self.names and AWAY.name not in self.names:
            return
        for page in (self.camera.wide, self.camera.phone):
            page.goto(self.studio.address + AWAY.path)
            self.camera.settle(page, AWAY.path)
        self.studio.kill()
        for page in (self.camera.wide, self.camera.phone):
            page.bring_to_front()
            expect(page.locator(".hy-live").first).to_contain_text("The studio cannot be reached")
            self.camera.keep(page, AWAY.name, full=False)
        self.studio.start()


ABOUT = """# Every page, in every state

Taken from a real session on the shipped sample by `make screenshots` (AMD EPYC, two shared cores, no GPU), each in
light, in dark and as a phone shows it. A picture opens in its full size. axe-core finds no rule of WCAG 2.1 A and AA
broken on 41 addresses, 101 looks in light and in dark ([accessible.json](accessible.json),
`tests/browser/test_accessible.py`).

| what | light | dark | phone |
|---|---|---|---|
"""
WIDTHS = {"": 300, "-dark": 300, "-phone": 110}  # pixels


def write_page() -> None:
    """The page of the docs that shows every picture there is."""
    rows = []
    for state in ALL:
        if not all((FOLDER / f"{state.name}{look}.webp").exists() for look in WIDTHS):
            continue
        shots = {f"screenshots/{state.name}{look}.webp": width for look, width in WIDTHS.items()}
        cells = [
            f'<a href="{at}"><img src="{at}" width="{width}" alt="{state.words}"></a>' for at, width in shots.items()
        ]
        rows.append(f"| {state.words} | {' | '.join(cells)} |")
    PAGE.write_text(ABOUT + "\n".join(rows) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="folder of the session, so that its parts can be taken one by one")
    parser.add_argument("--part", choices=(*PARTS, *APART[1:]), nargs="+", default=PARTS)
    parser.add_argument("--take", nargs="+", default=(), help="only the states of these names")
    parser.add_argument("--phone", action="store_true", help="only as a phone shows them")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the tour's training")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    home = options.home or Path(tempfile.mkdtemp())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for part in options.part:
            session = Session(browser, Path(tempfile.mkdtemp()) if part in APART else home, options.take)
            if options.phone:
                session.camera.looks = (session.camera.phone,)
            try:
                session.tour(options.minutes) if part == "tour" else getattr(session, part)()
            finally:
                session.studio.end()
        browser.close()
    write_page()


if __name__ == "__main__":
    main()
