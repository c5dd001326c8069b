"""A table from upload to a run: what an import would make of it is seen and corrected before it is made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio
from tests.browser.test_accessible import violations_in_both

pytestmark = pytest.mark.browser
HEAD = "Ticket;Received;Customer question;What we reply;Team"
QUESTIONS = ("Can I return <b>kettle</b> {}?", "Where is my order {}?", "How do I descale model {}, and when?")
REPLIES = (
    "Yes, within {} days.",
    "We are sorry. Look at the drop-off place first.",
    "Run {} g of descaler through it.",
)


def faq(folder: Path) -> Path:
    """An ordinary export of 40 rows."""
    rows = [
        f"T-{1000 + i};2026-01-{i % 28 + 1:02d};{QUESTIONS[i % 3].format(i)};{REPLIES[i % 3].format(i)};"
        f"{('Returns', 'Shipping', 'Care')[i % 3]}"
        for i in range(40)
    ]
    (path := folder / "faq.csv").write_text("\n".join([HEAD, *rows]) + "\n", "utf-8")
    return path


def test_a_table_is_corrected_by_hand_before_its_import_and_trained_on(
    page: Page, studio: Studio, tmp_path: Path
) -> None:
    page.goto(studio.address + "/corpora")
    page.locator("#corpus-files input[type=file]").set_input_files(faq(tmp_path))
    expect(page.locator("#corpus-files").get_by_text("faq")).to_be_visible()
    page.locator("#add-corpus").click()
    page.wait_for_url(re.compile(r"corpora\?corpus=\d+"))
    use = page.get_by_label("Use of column Team")
    expect(use).to_have_value("label")
    expect(page.get_by_text("Not used: Ticket, Received.")).to_be_visible()
    use.focus()
    use.select_option("prompt")
    expect(page.get_by_label("Use of column Customer question").locator("option:checked")).to_have_text(
        "Prompt, part 1"
    )
    expect(page.locator(".hy-example .seen").filter(has_text="Returns").first).to_be_visible()
    expect(use).to_be_focused()
    page.reload()
    expect(use).to_have_value("prompt")
    expect(page.get_by_text("lose their end")).to_be_visible()
    assert violations_in_both(page) == {}
    page.locator("#import-corpus").click()
    expect(page.get_by_text("All 40 rows read. Ticket, Received are not used.")).to_be_visible()
    expect(page.get_by_text("Page 1 of 4")).to_be_visible()
    expect(use).to_be_hidden()
    page.get_by_role("button", name="What the model will see").click()
    expect(use).to_have_value("prompt")
    page.get_by_role("link", name="Train on this").click()
    page.wait_for_url(re.compile(r"new-run\?corpus=\d+"))
    expect(page.get_by_label("Corpus")).to_have_value("faq (40 examples)")
