"""docs/methods.md says what the code says, for every method."""

from __future__ import annotations

from pathlib import Path

import pytest

from hydralora.methods import EXPORTS, METHODS, Method

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text("utf-8")
MERGES = {"exact": "yes", "fixed": "where combined by mean or sum", "no": "no"}
LABELS = {True: "yes", False: "no", "hard": "with `hard`"}


def table_row(method: Method) -> str:
    """The row of the table at the top; a formula's bars are escaped there."""
    formula = method.formula.replace("|", r"\|")
    cells = (f"`{method.name}`", method.title, f"`{formula}`", MERGES[method.mergeable], LABELS[method.needs_labels])
    return "| " + " | ".join(cells) + " |"


def section(method: Method) -> str:
    return f"### {method.title} (`{method.name}`)\n"


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_table_holds_every_method_as_the_code_describes_it(method):
    assert table_row(method) in TEXT


def option_row(method: Method, name: str) -> str:
    """The row of the table of trainings for one option."""
    field = method.options.model_fields[name]
    return f"| {method.title} | `{name}` | {field.default} | {field.description} |"


TRAININGS = [
    (method, name)
    for method in METHODS.values()
    if method.mixin
    for name in method.options.model_fields
    if name in method.options.training_only or name.startswith("compensation") or method.name == "lorahub"
]


@pytest.mark.parametrize(("method", "name"), TRAININGS, ids=[f"{m.name} {name}" for m, name in TRAININGS])
def test_every_option_of_a_training_has_its_row(method, name):
    assert option_row(method, name) in TEXT.splitlines()


def test_no_row_is_left_of_an_option_that_is_gone():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "| `" in line and line.count("|") == 5]
    titles = {method.title for method, _ in TRAININGS}
    found = [line for line in rows if line.split("|")[1].strip() in titles]
    assert found == [option_row(method, name) for method, name in TRAININGS]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_has_a_section_with_source_notes_and_presets(method):
    body = TEXT.partition(section(method))[2].partition("\n### ")[0]
    assert method.summary in body and method.source in body and method.reconstruction in body
    assert all(f"`{preset}`" in body for preset in method.presets)


def test_no_row_is_left_of_a_method_that_is_gone():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    names = [line.split("`")[1] for line in rows]
    assert names == [*METHODS, *EXPORTS]
