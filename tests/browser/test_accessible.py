"""Every page in every state can be read and used by everybody: WCAG 2.1 A and AA by axe-core, focus, tab stops.

What axe looks at: https://github.com/dequelabs/axe-core/blob/develop/doc/rule-descriptions.md
``HYDRA_AXE_JSON=FILE`` keeps of each look what was looked at, how many rules held, and how many were broken.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, expect

from hydralora.corpus.preview import preview_files
from hydralora.corpus.query import Query
from hydralora.results import AnswerRow, Answers, Score
from jobs.home import Home
from jobs.store.records import Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.browser.conftest import Studio
from tests.studio.stored import (
    LAYERS,
    Stored,
    experts_result,
    map_result,
    routing_result,
    weights_result,
)

pytestmark = pytest.mark.browser
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
# Selectors that axe leaves out, each with its reason. None is needed.
LEFT_OUT: dict[str, str] = {}
WORDS = ("The", " door", " of", " house", " 7", " is", " red", ".")
ANSWERS = Answers(
    examples=2,
    scores={
        "base": Score(exact_match=0.0, hits=[False, False], by_label={"tone": 0.0}),
        "tuned": Score(exact_match=0.5, hits=[True, False], by_label={"tone": 0.5}),
    },
    sentence="Right on 50 % of 2 held-out questions; was 0 %.",
    rows=[
        AnswerRow(id=i, prompt=f"q {i}", wanted="a", label="tone", base="b", tuned="" if i else "a") for i in range(2)
    ],
)
# Addresses by state; {failed} and the like are ids of what `fill` has made.
STATES = {
    "workspace": "/",
    "tour not begun": "/tour",
    "corpora": "/corpora?corpus={corpus}",
    "corpus with edited clusters": "/corpora?corpus={edited}",
    "corpus with a selection": "/corpora?corpus={corpus}&selection={selection}",
    "corpus not imported yet": "/corpora?corpus={draft}",
    "corpus that could not be read": "/corpora?corpus={unread}",
    "corpus that does not exist": "/corpora?corpus=999",
    "bases": "/bases",
    "one base": "/bases?base=starter",
    "base that does not exist": "/bases?base=nobody",
    "new run": "/new-run?corpus={corpus}",
    "run running": "/run?run={running}",
    "run finished": "/run?run={finished}",
    "run failed": "/run?run={failed}",
    "run waiting": "/run?run={waiting}",
    "chat with answers": "/run?run={finished}&tab=chat&conversation={conversation}",
    "chat with three things to try": "/run?run={finished}&tab=chat&try=1&mute=1",
    "run that does not exist": "/run?run=999",
    "chat with a base": "/chat",
    "endpoint with keys": "/endpoint",
    "runs": "/runs?sort=-exact",
    "runs that are archived": "/runs?archived=1",
    "compare": "/compare?runs={finished},{other},{failed},999&by=run&single=1",
    "compare answers": "/compare?runs={finished},{other}&by=run&tab=answers&show=all",
    "compare experts": "/compare?runs={finished},{other}&by=run&tab=experts",
    "compare weights": "/compare?runs={finished},{other}&by=run&tab=weights",
    "compare cost": "/compare?runs={finished},{other}&by=run&tab=cost",
}
# Those that hold hardly a thing that the others do not, or that a test below opens too.
LONG = {
    *("corpora", "corpus with edited clusters", "chat with a base"),
    *(state for state in STATES if state.endswith("does not exist")),
    *("tour not begun", "corpus that could not be read", "run failed", "run waiting", "one base"),
    *("chat with three things to try", "runs that are archived", "compare experts", "compare weights", "compare cost"),
}
FAQ = "Ticket;Question;Reply\n" + "".join(f"T-{i};Where is order {i}?;It is on its way.\n" for i in range(9))
TABS = ("Answers", "Experts", "Routing", "Weights", "Training", "Export")
EMPTY = ("/", "/corpora", "/runs", "/compare", "/new-run", "/run", "/chat", "/endpoint", "/tour")
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def add_steps(stored: Stored, run: Run) -> None:
    gates = {layer: [0.6, 0.4] for layer in LAYERS}
    stored.steps(
        run, [{"loss": 3.0 / n, "eval_loss": 2.0 / n, "tokens_per_second": 900.0, "gates": gates} for n in (1, 2, 3)]
    )


def add_runs(stored: Stored, ids: dict[str, int]) -> None:
    """One run in each state; the running one is what is claimed and not ended, the waiting one is queued last."""
    corpus = stored.store.corpora.get(ids["corpus"])
    finished = stored.run(corpus, "Finished")
    other = stored.run(corpus, "Finished too")
    failed = stored.run(corpus, "Failed", finished=False)
    stored.end(failed.job, status=JobStatus.FAILED, error="Out of memory at step 2. Make the batch smaller.")
    running = stored.run(corpus, "Running", finished=False)
    assert running.job is not None
    held = stored.store.attempts.claim("tests", "here", running.job.lane)
    assert held is not None and held.id == running.job.id
    for run in (finished, running):
        add_steps(stored, run)
    for kind, result in (
        ("routing", routing_result()),
        ("weights", weights_result()),
        ("map", map_result()),
        ("experts", experts_result()),
        ("answers", ANSWERS),
    ):
        stored.analysis(finished, kind, result)
    stored.analysis(other, "answers", ANSWERS)
    archived = stored.run(corpus, "Archived")
    stored.store.run_list.archive([archived.id])
    stored.store.run_list.tag([finished.id, other.id], add=["best"])
    waiting = stored.run(corpus, "Waiting", finished=False)
    ids.update(finished=finished.id, other=other.id, failed=failed.id, running=running.id, waiting=waiting.id)


def add_conversation(store: Store, run: int) -> int:
    """Two answers to one question, coloured by expert, the second with scores of the first one's words."""
    conversation = store.chats.create(title="Doors")
    question = store.chats.ask(conversation.id, "Which colour is the door?")
    first = store.chats.begin_answer(question, run, {})
    shares = [[[0.7, 0.3], [0.6, 0.4]] if i % 3 else [[0.2, 0.8], [0.4, 0.6]] for i in range(len(WORDS))]
    tokens = [[word, gates, i] for i, (word, gates) in enumerate(zip(WORDS, shares, strict=True))]
    done = {"text": "".join(WORDS), "tokens": tokens, "state": "done"}
    store.chats.write_answer(first.id, **done, details={"layers": LAYERS, "tokens_per_second": 30})
    second = store.chats.begin_answer(question, run, {"factors": {"0": 0}})
    own = [0.5] * len(WORDS)
    scores = {"of": first.id, "own": own, "here": [0.05 * (i + 1) for i in range(len(WORDS))]}
    store.chats.write_answer(second.id, **{**done, "tokens": tokens[1:]}, details={"layers": LAYERS, "weighed": scores})
    return conversation.id


def fill(home: Home) -> dict[str, int]:
    """Something in every state; gives the ids by name."""
    store = Store(home)
    stored = Stored(store)
    rows = [{"prompt": f"question {i}", "answer": f"answer {i}", "label": "tone"} for i in range(40)]
    ids = {"corpus": stored.corpus("Trades", rows).id}
    stored.clustering(store.corpora.get(ids["corpus"]))
    ids["edited"] = stored.kinds().id
    store.cluster_edits.rename(ids["edited"], 0, "Sea")
    stored.work(store.cluster_edits.split(ids["edited"], 0, 2).job)
    store.cluster_edits.exclude(ids["edited"], 2)
    ids["selection"] = store.selections.add(ids["corpus"], "First ten", Query(rows=list(range(10)))).id
    store.exclusions.add(ids["corpus"], [1, 2], "by hand")
    file = home.root / "unread.csv"
    file.write_text("x", "utf-8")
    unread = store.corpora.add("Unread", [file])
    stored.end(unread.job, status=JobStatus.FAILED, error="No column looks like a question. Choose the roles.")
    ids["unread"] = unread.id
    store.keys.create("a notebook")
    store.keys.switch(True)
    (file := home.root / "faq.csv").write_text(FAQ, "utf-8")
    draft = store.corpora.draft("Draft", [file])
    stored.end(draft.job, preview_files([file]).row())
    ids["draft"] = draft.id
    add_runs(stored, ids)
    ids["conversation"] = add_conversation(store, ids["finished"])
    return ids


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, dict[str, int]]]:
    """A studio without a worker, so that every state stays as it is."""
    folder = tmp_path_factory.mktemp("filled")
    ids = fill(Home(folder))
    running = Studio(folder, words=("--no-worker",))
    running.start()
    yield running, ids
    running.end()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    running = Studio(tmp_path_factory.mktemp("empty"), words=("--no-worker",))
    running.start()
    yield running
    running.end()


@pytest.fixture
def busy(tmp_path: Path, chromium: Browser) -> Iterator[Page]:
    """A page of a studio where a training runs and another has failed; no chat has started a worker there."""
    home = Home(tmp_path)
    stored = Stored(Store(home))
    add_runs(stored, {"corpus": stored.corpus("Doors").id})
    running = Studio(tmp_path, words=("--no-worker",))
    running.start()
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    running.let_in(context)
    page = context.new_page()
    settled(page, running.address + "/endpoint")
    yield page
    context.close()
    running.end()


@pytest.fixture(scope="module")
def visitor(chromium: Browser, filled: tuple[Studio, dict[str, int]]) -> Iterator[BrowserContext]:
    """Who reads the filled studio; a browser that has been here has its scripts."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    filled[0].let_in(context)
    yield context
    context.close()


@pytest.fixture
def reader(visitor: BrowserContext) -> Iterator[Page]:
    """A page of the filled studio."""
    page = visitor.new_page()
    yield page
    page.close()


def violations(page: Page) -> list[str]:
    """What axe finds: the rule, where, and why."""
    page.evaluate(AXE_SCRIPT)
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found = page.evaluate(
        "([out, options]) => axe.run({exclude: out.map((s) => [s])}, options)", [list(LEFT_OUT), options]
    )
    assert found["passes"], "axe has looked at nothing"
    keep(page, len(found["passes"]), len(found["violations"]))
    return [
        f"{rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def keep(page: Page, held: int, broken: int) -> None:
    """Keep what a look has found where somebody asks for it."""
    path = os.environ.get("HYDRA_AXE_JSON")
    if not path or page.url == "about:blank":  # which is what shows that axe finds something
        return
    file, address = Path(path), urlsplit(page.url)
    looks = json.loads(file.read_text("utf-8")) if file.exists() else []
    looks.append(
        {
            "page": address.path + (f"?{address.query}" if address.query else ""),
            "scheme": "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light",
            "width": page.viewport_size["width"] if page.viewport_size else None,
            "rules_held": held,
            "rules_broken": broken,
        }
    )
    file.write_text(json.dumps(looks, indent=1) + "\n", "utf-8")


def violations_in_both(page: Page) -> dict[str, list[str]]:
    """What axe finds in light and in dark, which the page follows while it stands; empty where it finds nothing."""
    found = {}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        is_dark = page.locator("body.dark")
        expect(is_dark).to_have_count(int(scheme == "dark"))
        page.wait_for_timeout(400)  # figures are painted anew
        found[scheme] = violations(page)
    return {scheme: what for scheme, what in found.items() if what}


def settled(page: Page, address: str) -> None:
    """Open a page, wait for what it loads, and open every fold."""
    page.goto(address)
    expect(page.locator("h1").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    for fold in page.locator(".label-wrap:not(.open)").all():
        if fold.is_visible():
            fold.evaluate("node => node.click()")  # which leaves the focus where it is
    page.wait_for_timeout(500)


@pytest.mark.parametrize("state", [pytest.param(s, marks=pytest.mark.long) if s in LONG else s for s in STATES])
def test_a_page_breaks_no_rule(reader: Page, filled: tuple[Studio, dict[str, int]], state: str) -> None:
    studio, ids = filled
    settled(reader, studio.address + STATES[state].format(**ids))
    assert violations_in_both(reader) == {}


def test_the_menu_of_a_cluster_breaks_no_rule_and_closes_by_the_keyboard(
    reader: Page, filled: tuple[Studio, dict[str, int]]
) -> None:
    studio, ids = filled
    settled(reader, f"{studio.address}/corpora?corpus={ids['edited']}")
    menu = reader.get_by_label("What to do with C2")
    menu.focus()
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("button", name="Borderline rows")).to_be_visible()
    assert violations_in_both(reader) == {}
    reader.keyboard.press("Tab")
    assert reader.evaluate(RING)["has"]
    reader.keyboard.press("Escape")
    expect(reader.get_by_role("button", name="Borderline rows")).to_be_hidden()
    expect(menu).to_be_focused()


def test_no_tab_of_a_run_breaks_a_rule(reader: Page, filled: tuple[Studio, dict[str, int]]) -> None:
    studio, ids = filled
    settled(reader, f"{studio.address}/run?run={ids['finished']}&tab=chat")
    found = {}
    for tab in TABS:
        reader.get_by_role("tab", name=tab, exact=True).click()
        expect(reader.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
        reader.wait_for_timeout(1_000)
        found[tab] = violations_in_both(reader)
    assert found == {tab: {} for tab in TABS}


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_empty_studio_breaks_no_rule(chromium: Browser, empty: Studio, scheme: Scheme) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(empty.address)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    found = {"sign in": violations(page)}
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    found["sign in again"] = violations(page)
    empty.let_in(context)
    for path in EMPTY:
        settled(page, empty.address + path)
        found[path] = violations(page)
    context.close()
    assert {where: what for where, what in found.items() if what} == {}


def test_axe_finds_what_is_wrong(chromium: Browser) -> None:
    page = chromium.new_page()
    page.set_content("<html lang='en'><title>t</title><p style='color:#bbb;background:#fff'>pale</p>")
    found = violations(page)
    page.close()
    assert len(found) == 1 and "color-contrast" in found[0]


def test_the_tray_breaks_no_rule_and_is_used_by_the_keyboard_alone(busy: Page) -> None:
    tray = busy.locator("#tray > button")
    expect(tray).to_contain_text("1 running")
    expect(tray).to_contain_text("failed")
    tray.focus()
    busy.keyboard.press("Enter")
    panel = busy.get_by_role("region", name="Jobs")
    expect(panel).to_contain_text("Training: Running")
    expect(panel).to_contain_text("Out of memory at step 2. Make the batch smaller.")
    assert violations_in_both(busy) == {}
    busy.keyboard.press("Tab")
    expect(panel.get_by_role("button", name="Close")).to_be_focused()
    assert busy.evaluate(RING)["has"]
    busy.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(tray).to_be_focused()


def test_the_tabs_of_a_run_are_one_tab_stop_and_none_is_hidden_on_a_phone(
    reader: Page, filled: tuple[Studio, dict[str, int]]
) -> None:
    reader.set_viewport_size({"width": 390, "height": 800})
    settled(reader, f"{filled[0].address}/run?run={filled[1]['finished']}&tab=export")
    tabs = reader.get_by_role("tab")
    expect(tabs).to_have_count(7)
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for tab in tabs.all() if (box := tab.bounding_box()))
    tabs.nth(6).focus()
    reader.keyboard.press("Home")
    expect(tabs.first).to_be_focused()
    expect(tabs.first).to_have_attribute("aria-selected", "true")
    assert "tab=answers" in reader.url
    reader.keyboard.press("Tab")
    assert reader.evaluate("document.activeElement.getAttribute('role')") != "tab"


# The keyboard

RING = """() => {
  const probe = document.createElement("i");
  probe.style.color = "var(--focus)";
  document.body.append(probe);
  const wanted = getComputedStyle(probe).color;
  probe.remove();
  const at = document.activeElement;
  const ringed = (node) => {
    const style = getComputedStyle(node);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && style.outlineColor === wanted;
  };
  const around = [at, at.parentElement, at.parentElement?.parentElement].filter(Boolean);
  return { name: at.tagName + "." + (at.className?.baseVal ?? at.className), isBody: at === document.body,
           has: around.some(ringed), place: [...document.querySelectorAll("*")].indexOf(at) };
}"""


def walk(page: Page, most: int = 120) -> list[dict[str, Any]]:
    """Tab through a page until its end, or to where one has been before; gives every stop."""
    stops: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stop = page.evaluate(RING)
        if stop["isBody"] or any(stop["place"] == seen["place"] for seen in stops):
            break
        stops.append(stop)
    return stops


@pytest.mark.parametrize(
    "state",
    [
        *("new run", "run finished"),
        *(
            pytest.param(state, marks=pytest.mark.long)
            for state in ("workspace", "corpora", "runs", "compare", "chat with answers")
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_focus_is_seen_at_every_stop(
    reader: Page, filled: tuple[Studio, dict[str, int]], state: str, scheme: Scheme
) -> None:
    reader.emulate_media(color_scheme=scheme)
    studio, ids = filled
    settled(reader, studio.address + STATES[state].format(**ids))
    stops = walk(reader)
    assert len(stops) > 8
    assert [stop["name"] for stop in stops if not stop["has"]] == []


def test_runs_are_chosen_and_compared_by_the_keyboard_alone(
    reader: Page, filled: tuple[Studio, dict[str, int]]
) -> None:
    studio, ids = filled
    settled(reader, f"{studio.address}/runs")
    for run in ("finished", "other"):
        box = reader.locator(f"input[data-tick='{ids[run]}']")
        box.focus()
        reader.keyboard.press("Space")
        expect(box).to_be_checked()
    assert violations(reader) == []  # with the bar of what is ticked
    go = reader.get_by_role("link", name="Compare 2 runs")
    go.focus()
    assert reader.evaluate(RING)["has"]
    reader.keyboard.press("Enter")
    expect(reader.get_by_text("2 runs on Trades")).to_be_visible()
    reader.get_by_role("button", name="Answers").focus()
    reader.keyboard.press("Enter")
    expect(reader.get_by_text("A right, B wrong")).to_be_visible()
    assert "tab=answers" in reader.url
    expect(reader.get_by_role("button", name="Answers", exact=True)).to_be_focused()
    box = reader.get_by_role("checkbox", name="Finished too")
    box.focus()
    reader.keyboard.press("Space")
    expect(reader.get_by_text("One run. Choose another to compare it with.")).to_be_visible()
    expect(box).to_be_focused()


def test_curves_are_smoothed_and_put_on_a_log_scale_by_the_keyboard_and_stay_so(
    reader: Page, filled: tuple[Studio, dict[str, int]]
) -> None:
    settled(reader, f"{filled[0].address}/run?run={filled[1]['running']}&tab=training")
    scale = "() => document.querySelector('#chart-loss .pl-host')._fullLayout?.yaxis.type"
    reader.wait_for_function(f"({scale})() === 'linear'")
    reader.get_by_label("Smoothing").focus()
    reader.keyboard.press("ArrowDown")
    expect(reader).to_have_url(re.compile("smooth=0.05"))
    expect(reader.locator("#chart-loss .aid")).to_contain_text("Smoothed over 5% of the steps")
    box = reader.get_by_label("Log scale")
    box.focus()
    reader.keyboard.press("Space")
    reader.wait_for_function(f"({scale})() === 'log'")
    expect(box).to_be_focused()
    reader.reload()
    expect(reader.get_by_label("Smoothing")).to_have_value("0.05")
    expect(reader.get_by_label("Log scale")).to_be_checked()


@pytest.mark.parametrize(
    "state",
    ["runs", "compare", *(pytest.param(f"compare {tab}", marks=pytest.mark.long) for tab in ("answers", "cost"))],
)
def test_a_phone_shows_the_whole_width(reader: Page, filled: tuple[Studio, dict[str, int]], state: str) -> None:
    reader.set_viewport_size({"width": 390, "height": 800})
    settled(reader, filled[0].address + STATES[state].format(**filled[1]))
    assert reader.evaluate("document.documentElement.scrollWidth") <= 390
    assert violations(reader) == []


# Texts of figures that leave their figure or lie over another, and figures that reach over what is below them.
CROWDED = """() => [...document.querySelectorAll(".pl-host")].flatMap((host) => {
  if (!host.offsetWidth || !host.querySelector(".main-svg")) return [];
  const around = host.getBoundingClientRect(), found = [];
  const texts = [...host.querySelectorAll("svg text")].map((text) => {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    return { is: text.textContent, turned: /rotate/.test(text.getAttribute("transform")), left, right, top, bottom };
  }).filter((text) => text.right > text.left);
  for (const [place, one] of texts.entries()) {
    if (one.left < around.left - 1 || one.right > around.right + 1 || one.bottom > around.bottom + 1) {
      found.push(`${one.is} leaves`);
    }
    for (const other of texts.slice(place + 1)) {
      const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (wide > 2 && high > 3 && !one.turned && !other.turned) found.push(`${one.is} lies over ${other.is}`);
    }
  }
  const foot = host.nextElementSibling?.getBoundingClientRect();
  return foot && foot.top < around.bottom - 1 ? [...found, "it covers its foot"] : found;
})"""


@pytest.mark.parametrize("width", [390, pytest.param(800, marks=pytest.mark.long), 1440])
@pytest.mark.parametrize(
    "address",
    [
        "/run?run={finished}&tab=routing",
        *(
            pytest.param(address, marks=pytest.mark.long)
            for address in (
                "/run?run={running}&tab=training&smooth=0.3&log=1",
                "/run?run={finished}&tab=weights",
                "/run?run={finished}&tab=experts",
                "/corpora?corpus={corpus}",
                "/compare?runs={finished},{other},{running}",
                "/compare?runs={finished},{other}&tab=cost",
            )
        ),
    ],
)
def test_nothing_in_a_figure_lies_over_another_thing_at_any_width(
    reader: Page, filled: tuple[Studio, dict[str, int]], address: str, width: int
) -> None:
    reader.set_viewport_size({"width": 1280, "height": 900})
    settled(reader, filled[0].address + address.format(**filled[1]))
    expect(reader.locator(".pl-host .main-svg").first).to_be_visible()
    reader.wait_for_timeout(1_000)  # all of them
    tall = "() => [...document.querySelectorAll('.pl-host')].filter((n) => n.offsetWidth).map((n) => n.offsetHeight)"
    before = reader.evaluate(tall)
    reader.set_viewport_size({"width": width, "height": 900})
    reader.wait_for_timeout(1_500)
    assert reader.evaluate(CROWDED) == []
    assert reader.evaluate(tall) == before


def test_focus_is_seen_on_radios(reader: Page, filled: tuple[Studio, dict[str, int]]) -> None:
    settled(reader, f"{filled[0].address}/new-run?corpus={filled[1]['corpus']}")
    reader.get_by_label("Quick").focus()
    reader.keyboard.press("ArrowRight")
    assert reader.evaluate(RING)["has"]


def test_an_answer_is_one_tab_stop_with_arrows_inside(reader: Page, filled: tuple[Studio, dict[str, int]]) -> None:
    studio, ids = filled
    settled(reader, studio.address + STATES["chat with answers"].format(**ids))
    tokens = reader.locator(".hy-msg.assistant").first.locator(".tok")
    expect(tokens).to_have_count(len(WORDS))
    stops = tokens.evaluate_all("nodes => nodes.filter((node) => node.tabIndex === 0).length")
    assert stops == 1
    tokens.first.focus()
    reader.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(reader.locator(".hy-gate")).to_have_count(2)
    reader.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    reader.keyboard.press("Tab")
    expect(tokens.last).not_to_be_focused()
    assert tokens.evaluate_all("nodes => nodes.filter((node) => node.tabIndex === 0).length") == 1


def test_the_message_box_is_near(reader: Page, filled: tuple[Studio, dict[str, int]]) -> None:
    studio, ids = filled
    settled(reader, studio.address + STATES["chat with answers"].format(**ids))
    names = []
    while len(names) < 40 and names[-1:] != ["Message"]:
        reader.keyboard.press("Tab")
        names.append(reader.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len(names) <= 30, names  # with header, list of runs and tabs before it


def test_a_word_has_four_signs_of_its_expert(reader: Page, filled: tuple[Studio, dict[str, int]]) -> None:
    studio, ids = filled
    settled(reader, studio.address + STATES["chat with answers"].format(**ids))
    word = reader.locator(".hy-msg.assistant").first.locator(".tok[data-name]").first
    look = word.evaluate(
        "node => { const s = getComputedStyle(node); return [s.backgroundColor, s.borderBottomStyle, "
        "s.borderBottomWidth, getComputedStyle(node, '::after').content]; }"
    )
    assert re.search(r"0\.(15|2)\b", look[0]), "the tint"
    assert look[1] in ("solid", "dashed", "double", "dotted") and look[2] == "3px"
    assert json.loads(look[3]) == word.get_attribute("data-expert")


def test_who_wants_no_motion_gets_none(chromium: Browser, filled: tuple[Studio, dict[str, int]]) -> None:
    studio, ids = filled
    context = chromium.new_context(reduced_motion="reduce")
    studio.let_in(context)
    page = context.new_page()
    settled(page, studio.address + STATES["run running"].format(**ids))
    moving = page.evaluate(
        """() => [...document.querySelectorAll(".contain *")].filter((node) => {
          const style = getComputedStyle(node);
          const times = style.transitionDuration.split(",").map(parseFloat);
          return Math.max(...times) > 0 || style.animationName !== "none";
        }).map((node) => node.className)"""
    )
    context.close()
    assert moving == []
