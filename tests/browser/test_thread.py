"""The whole thread as a user walks it: upload, cluster, train, inspect, chat. The tests run in order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import PROJECT, Studio, still, wait_until

pytestmark = pytest.mark.browser
SAMPLE = PROJECT / "data" / "corpora" / "four-trades" / "four-trades.jsonl"


@pytest.fixture(scope="module")
def store(studio: Studio) -> Store:
    return Store(Home(studio.home))


def figure(page: Page, name: str) -> None:
    """Wait until a figure is drawn."""
    expect(page.locator(f"#{name} .main-svg").first).to_be_visible(timeout=120_000)


def test_an_empty_studio_says_where_to_begin(page: Page, studio: Studio) -> None:
    page.goto(studio.address)
    expect(page.get_by_role("heading", name="Teach a language model")).to_be_visible()
    page.get_by_role("link", name="Bring your data").click()
    page.wait_for_url(studio.address + "/corpora")


def test_a_file_is_uploaded_and_described(page: Page, studio: Studio, tmp_path: Path) -> None:
    part = tmp_path / "questions.jsonl"
    part.write_text("".join(SAMPLE.read_text("utf-8").splitlines(keepends=True)[:600]), "utf-8")
    page.goto(studio.address + "/corpora")
    page.locator("#corpus-files input[type=file]").set_input_files(part)
    expect(page.locator("#corpus-files").get_by_text("questions")).to_be_visible()
    page.locator("#add-corpus").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
    expect(page.get_by_text("question and answer")).to_be_visible()
    page.locator("#import-corpus").click()
    expect(page.get_by_text("Page 1 of 60")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Page 2 of 60")).to_be_visible()


def test_the_sample_is_clustered_and_a_loop_shows_its_rows(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/corpora")
    page.locator("#use-sample").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
    expect(page.get_by_text("duplicates")).to_be_visible()
    page.locator("#cluster").click()
    expect(page.get_by_text("Suggested number of experts: 4")).to_be_visible()
    expect(page.locator("#corpus-map .legend li")).to_have_count(4)
    page.get_by_role("button", name="Draw a loop").click()
    box = still(page.locator("#corpus-map .stage"))
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.05)]
    points = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    expect(page.get_by_text("3,000 rows of 3,000 selected")).to_be_visible()


@pytest.mark.parametrize("name", ["elbow"])
def test_a_figure_keeps_its_height_when_the_window_changes(page: Page, studio: Studio, store: Store, name: str) -> None:
    page.goto(f"{studio.address}/corpora?corpus={store.corpora.all()[0].id}")
    figure(page, name)
    host = page.locator(f"#{name} .pl-host")
    tall = host.evaluate("node => node.offsetHeight")
    assert tall > 200
    for width in (700, 1_100, 390, 1_280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(600)
        drawn = host.locator(".main-svg").first.bounding_box()
        outer = host.bounding_box()
        assert drawn is not None and outer is not None
        assert abs(outer["height"] - tall) < 2 and abs(drawn["height"] - tall) < 2
        assert abs(drawn["width"] - outer["width"]) < 2


def test_a_run_is_started_with_one_click_and_survives_reload_and_a_killed_web_process(
    page: Page, studio: Studio, store: Store
) -> None:
    page.goto(studio.address + "/new-run?corpus=2")
    expect(page.get_by_text("suggested number of experts: 4")).to_be_visible()
    page.locator("#field-max_steps input").fill("60")
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"run\?run=\d+"))
    figure(page, "chart-loss")
    page.reload()
    figure(page, "chart-loss")
    page.goto("about:blank")
    studio.kill()
    wait_until(lambda: store.runs.get(1).job is not None and store.runs.get(1).job.is_finished, 240)  # type: ignore[union-attr]
    assert store.runs.get(1).status == "succeeded"
    assert [s.step for s in store.runs.steps(1) if "loss" in s.numbers] == list(range(1, 61))
    studio.start()
    page.goto(studio.address + "/runs/1")
    page.get_by_role("tab", name="Training").click()
    expect(page.get_by_text("It took")).to_be_visible()
    expect(page.get_by_text("60 of 60", exact=True)).to_be_visible()
    figure(page, "chart-gates")
    page.go_back()
    expect(page.get_by_role("tab", name="Answers")).to_have_attribute("aria-selected", "true")


def test_two_tabs_show_the_same_run(page: Page, studio: Studio) -> None:
    other = page.context.new_page()
    for tab in (page, other):
        tab.goto(studio.address + "/run?run=1&tab=training")
        expect(tab.get_by_text("60 of 60", exact=True)).to_be_visible()


def test_the_experts_are_shown_layer_by_layer(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/inspect?run=1")
    expect(page.get_by_role("heading", name="of 240 unseen questions")).to_be_visible(timeout=120_000)
    page.get_by_text("Wrong", exact=True).click()
    expect(page.locator("#answers .hy-status.failed").first).to_be_visible()
    expect(page.locator("#answers .hy-status.succeeded")).to_have_count(0)
    page.get_by_role("tab", name="Routing").click()
    figure(page, "gate-layers")
    figure(page, "gate-groups")
    figure(page, "gate-distribution")
    cells = page.locator("#gate-layers .nsewdrag")
    box = still(cells)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    expect(page.get_by_text("the examples with the highest mean gate")).to_be_visible()
    page.get_by_role("tab", name="Weights").click()
    figure(page, "head-grid")
    figure(page, "head-similarity")
    for layout in ("PCA", "t-SNE"):
        page.locator("#map-layout").get_by_role("radio", name=layout).click()
        expect(page.locator("#matrix-map .aid")).to_contain_text(layout, timeout=120_000)
    expect(page.get_by_text("Share chart")).to_have_count(0)


def test_every_expert_has_a_card_drawn_from_muting_it(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/run?run=1&tab=experts")
    expect(page.locator("#expert-cards .hy-xcard")).to_have_count(4, timeout=120_000)
    figure(page, "muted-groups")
    analysis = store.analyses.find(1, "experts")
    assert analysis is not None
    stored = json.loads((store.home.analysis(analysis.id) / "experts.json").read_text("utf-8"))
    for card in stored["cards"]:
        expect(page.locator("#expert-cards").get_by_text(card["sentence"])).to_be_visible()


def test_a_cell_of_a_cluster_opens_its_texts_and_the_slider_an_earlier_step(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/run?run=1&tab=routing")
    figure(page, "gate-groups")
    cells = page.locator("#gate-groups .nsewdrag")
    box = still(cells)
    page.mouse.click(box["x"] + box["width"] / 8, box["y"] + box["height"] / 8)
    expect(page.get_by_text("C1, E1: its examples with the highest mean gate")).to_be_visible()
    page.get_by_role("tab", name="Weights").click()
    page.locator("#head-step input[type=number]").fill("0")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Shown: the untrained start")).to_be_visible()


def test_the_picture_of_the_gates_shows_the_stored_numbers(studio: Studio, store: Store) -> None:
    analysis = store.analyses.find(1, "routing")
    assert analysis is not None
    stored = json.loads((store.home.analysis(analysis.id) / "routing.json").read_text("utf-8"))
    shown = studio.ask(f"/ui/figures/analyses/{analysis.id}/layers").json()
    drawn = shown["figure"]["data"][0]["z"]
    wanted = [[row[e] for row in stored["mean"]] for e in range(stored["experts"])]
    assert np.allclose(drawn, wanted, atol=1e-4)


def test_the_chat_streams_and_every_token_names_its_leading_expert(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/run?run=1&tab=chat")
    page.locator(".hy-examples button").first.click()
    expect(page.locator(".tok").first).to_be_visible(timeout=90_000)
    expect(page.get_by_role("button", name="Answer again")).to_be_visible(timeout=90_000)
    token = page.locator(".tok[data-expert]").first
    token.focus()
    expect(page.locator(".hy-gate")).to_have_count(4)
    label = token.get_attribute("aria-label") or ""
    shares = {name: int(value) for name, value in re.findall(r"(E\d) (\d+) %", label)}
    assert abs(sum(shares.values()) - 100) <= 2
    assert token.get_attribute("data-expert") == max(shares, key=lambda name: shares[name])


@pytest.mark.parametrize("width, height", [(1280, 640), (390, 640)])
def test_the_message_box_of_a_run_is_in_sight(page: Page, studio: Studio, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(studio.address + "/run?run=1&tab=chat&conversation=1")
    expect(page.locator(".hy-msg.assistant .tok").first).to_be_visible()
    page.wait_for_timeout(500)
    for part in (page.get_by_label("Message"), page.get_by_role("button", name="Send")):
        box = part.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height, (width, height, box)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_conversation_is_there_again_after_a_reload(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/run?run=1&tab=chat&conversation=1")
    expect(page.locator(".hy-msg.assistant .tok").first).to_be_visible()
    page.reload()
    expect(page.locator(".hy-msg.assistant .tok").first).to_be_visible()


def test_muting_an_expert_changes_who_speaks(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/run?run=1&tab=chat&conversation=1")
    page.get_by_label("Let one expert speak alone").select_option("1")
    page.get_by_role("button", name="Answer again").first.click()
    expect(page.get_by_text("only E2 · ")).to_be_visible(timeout=60_000)
    forced = page.locator(".hy-msg.assistant").last.locator(".tok")
    for expert in forced.evaluate_all("nodes => nodes.map(n => n.dataset.expert)"):
        assert expert == "E2"


def test_a_muted_expert_gives_another_answer_with_the_differences_marked(
    page: Page, studio: Studio, store: Store
) -> None:
    page.goto(studio.address + "/run?run=1&tab=chat&conversation=1")
    for name in ("E1", "E2", "E3", "E4"):
        page.get_by_label(f"Strength of {name}").fill("0")
    page.get_by_role("button", name="Answer again").first.click()
    muted = page.locator(".hy-msg.assistant", has_text="without E1, without E2")
    expect(muted.locator(".weighed summary")).to_contain_text("nats per token", timeout=60_000)
    first, *_, last = [m for m in store.chats.messages(1) if m.role == "assistant"]
    assert first.text != last.text
    kept = muted.locator(".tok:not(.diff)").evaluate_all("nodes => nodes.map(n => n.textContent)")
    words = iter(token[0] for token in first.tokens or [])
    assert muted.locator(".tok.diff").count() and all(word in words for word in kept)  # kept in order
    muted.locator(".weighed summary").click()
    shares = last.details["weighed"]
    assert len(shares["own"]) == len(first.tokens or []) and shares["of"] == first.id
    expect(muted.locator(".weighed .words span").first).to_have_attribute("title", re.compile("% here"))


def test_an_expert_can_be_changed_in_one_layer_only(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/run?run=1&tab=chat&conversation=1")
    where = page.get_by_label("Layers in which experts are changed")
    expect(where.locator("option")).not_to_have_count(1)
    where.select_option(index=2)
    page.get_by_label("Let one expert speak alone").select_option("1")
    page.get_by_role("button", name="Answer again").first.click()
    expect(page.get_by_text(re.compile("only E2 in layer"))).to_be_visible(timeout=60_000)
    wait_until(lambda: store.chats.messages(1)[-1].state == "done")
    last = store.chats.messages(1)[-1]
    assert [row for row in last.tokens[0][1] if row == [0, 1, 0, 0]] == [[0, 1, 0, 0]]  # type: ignore[index]


@pytest.mark.long
def test_an_adapter_from_elsewhere_is_imported_and_measured_on_a_chosen_corpus(
    page: Page, studio: Studio, store: Store
) -> None:
    page.goto(studio.address + "/new-run")
    page.get_by_role("button", name="Import an external adapter").click()
    made = store.home.run(1) / "adapter"
    files = [made / "adapter_config.json", made / "adapter_model.safetensors"]
    page.locator("#adapter-files input[type=file]").set_input_files(files)
    expect(page.locator("#adapter-files").get_by_text("adapter_model")).to_be_visible()
    page.locator("#adapter-name input, #adapter-name textarea").first.fill("From afar")
    page.locator("#adapter-base input").fill("starter")
    page.keyboard.press("Enter")
    page.locator("#start-import").click()
    page.wait_for_url(re.compile(r"run\?run=2"))
    expect(page.get_by_text("external adapter, HydraLoRA, without a corpus")).to_be_visible()
    expect(page.get_by_role("heading", name="measured here, not trained")).to_be_visible(timeout=90_000)
    page.get_by_role("tab", name="Routing").click()
    expect(page.get_by_text("This adapter came without a corpus").locator("visible=true")).to_be_visible()
    expect(page.locator("#measured-on input")).to_have_value("no corpus")
    page.locator("#measured-on input").click()
    page.get_by_role("option", name=re.compile("four-trades")).click()
    figure(page, "gate-layers")
    first, second = (store.analyses.find(run, "routing", params) for run, params in ((1, {}), (2, on(store))))
    assert first is not None and second is not None
    gates = [
        json.loads((store.home.analysis(a.id) / "routing.json").read_text("utf-8"))["mean"] for a in (first, second)
    ]
    assert np.allclose(*gates, atol=1e-4)


def on(store: Store) -> dict[str, int]:
    """The sample corpus in the parameters of an analysis."""
    clustering = store.clusterings.latest(2, finished=True)
    assert clustering is not None
    return {"corpus_id": 2, "clustering_id": clustering.id}


@pytest.mark.long
def test_a_stopped_run_can_be_resumed(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/new-run?again=1")
    expect(page.locator("#field-max_steps input")).to_have_value("60")
    page.locator("#field-max_steps input").fill("150")
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"run\?run=3"))
    figure(page, "chart-loss")
    page.locator("#stop-run").click()
    expect(page.get_by_role("heading", name="Stopped at step")).to_be_visible(timeout=90_000)
    reached = max(s.step for s in store.runs.steps(3))
    assert 0 < reached < 150
    page.locator("#resume-run").click()
    expect(page.get_by_role("heading", name="Trained")).to_be_visible(timeout=240_000)
    page.get_by_role("tab", name="Training").click()
    expect(page.get_by_text("150 of 150", exact=True)).to_be_visible()
    expect(page.get_by_text("before training")).to_be_visible()
    assert [s.step for s in store.runs.steps(3) if "loss" in s.numbers] == list(range(1, 151))


def test_a_run_on_a_base_that_is_not_there_is_refused_with_a_sentence(page: Page, studio: Studio) -> None:
    page.goto(studio.address + "/new-run?corpus=2")
    expect(page.get_by_text("suggested number of experts: 4")).to_be_visible()
    page.locator("#run-base input").fill("nowhere")
    page.keyboard.press("Enter")
    page.locator("#start-run").click()
    expect(page.get_by_text("Base model 'nowhere' is unknown")).to_be_visible()


def test_a_run_is_deleted_only_after_the_box_is_ticked(page: Page, studio: Studio, store: Store) -> None:
    runs = [run.id for run in store.runs.all()]
    page.goto(f"{studio.address}/run?run={runs[0]}")
    page.get_by_role("button", name="Rename or delete").click()
    page.locator("#delete-run").click()
    expect(page.get_by_text("Tick “Yes, delete it for good” first.")).to_be_visible()
    page.get_by_label("Yes, delete it for good").check()
    page.locator("#delete-run").click()
    page.wait_for_url(studio.address + "/")
    assert [run.id for run in store.runs.all()] == runs[1:]
